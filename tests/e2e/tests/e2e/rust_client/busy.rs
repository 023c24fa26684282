//! A server with little time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anklang_client::proto::anklang::brands::v1 as brands;
use brands::brand_service_server::{BrandService, BrandServiceServer};
use tokio::net::TcpListener;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// What a call said when it came to a [`Busy`] server.
#[derive(Debug, Clone)]
pub struct Came {
    pub at: Instant,
    /// Of its deadline, in microseconds.
    pub left: u64,
    pub request_id: String,
}

/// A server that refuses the first two calls, and says for how long.
#[derive(Clone, Default)]
pub struct Busy(Arc<Mutex<Vec<Came>>>);

pub const BUSY_FOR: Duration = Duration::from_millis(300);

impl Busy {
    pub async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Server::builder().add_service(BrandServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        addr
    }

    pub fn came(&self) -> Vec<Came> {
        self.0.lock().unwrap().clone()
    }

    fn look(&self, metadata: &MetadataMap, request_id: &str) -> Result<(), Status> {
        let left = metadata.get("grpc-timeout").unwrap().to_str().unwrap();
        let mut came = self.0.lock().unwrap();
        came.push(Came {
            at: Instant::now(),
            left: left.strip_suffix('u').unwrap().parse().unwrap(),
            request_id: request_id.into(),
        });
        match came.len() {
            ..=2 => {
                let details = ErrorDetails::with_retry_info(Some(BUSY_FOR));
                let status = Status::with_error_details(Code::Unavailable, "busy", details);
                Err(status)
            }
            _ => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl BrandService for Busy {
    async fn get_brand(
        &self,
        _: Request<brands::GetBrandRequest>,
    ) -> Result<Response<brands::Brand>, Status> {
        Err(Status::not_found("there are none"))
    }

    async fn list_brands(
        &self,
        request: Request<brands::ListBrandsRequest>,
    ) -> Result<Response<brands::ListBrandsResponse>, Status> {
        self.look(request.metadata(), "")?;
        Ok(Response::new(brands::ListBrandsResponse::default()))
    }

    async fn update_brand(
        &self,
        request: Request<brands::UpdateBrandRequest>,
    ) -> Result<Response<brands::Brand>, Status> {
        self.look(request.metadata(), &request.get_ref().request_id)?;
        Ok(Response::new(brands::Brand::default()))
    }
}

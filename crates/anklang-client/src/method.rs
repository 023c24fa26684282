//! What the protos say of a method: what it streams, and whether a call of it may be made again.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MethodDescriptor,
    Value,
};
use uuid::Uuid;

/// A method of the API.
pub(crate) struct Method {
    /// The request is a stream.
    pub takes_stream: bool,
    /// The response is a stream.
    pub gives_stream: bool,
    reads: bool,
    request_id: Option<FieldDescriptor>,
}

/// A flag, the length in four bytes, and the message, which can be read only if the flag says so.
fn unframed(request: &[u8]) -> Option<&[u8]> {
    match request {
        [0, _, _, _, _, message @ ..] => Some(message),
        _ => None,
    }
}

/// All methods, by path.
static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(|| {
    // They were made together with this program; that they can be read is tested.
    let pool = DescriptorPool::decode(anklang_proto::DESCRIPTORS).unwrap_or_default();
    let permission = pool.get_extension_by_name("anklang.common.v1.permission");
    let mut methods = HashMap::new();
    for service in pool.services() {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            methods.insert(path, Method::read(&method, permission.as_ref()));
        }
    }
    methods
});

/// The method of a path, if it is one of the API.
pub(crate) fn of(path: &str) -> Option<&'static Method> {
    METHODS.get(path)
}

impl Method {
    fn read(method: &MethodDescriptor, permission: Option<&ExtensionDescriptor>) -> Self {
        let request_id = method.input().get_field_by_name("request_id");
        Method {
            takes_stream: method.is_client_streaming(),
            gives_stream: method.is_server_streaming(),
            reads: reads(method, permission),
            request_id: request_id.filter(|f| f.kind() == Kind::String && !f.is_list()),
        }
    }

    /// The request as it goes over the wire, with a new `request_id` if it takes one and has none; and whether
    /// it may be sent again.
    pub fn repeatable(&self, request: Bytes) -> (Bytes, bool) {
        let identified = self
            .request_id
            .as_ref()
            .and_then(|field| identified(field, &request));
        match identified {
            Some(identified) => (identified, true),
            None => (request, self.reads),
        }
    }
}

impl Method {
    /// The id of a change; `None` of what changes nothing, or has none.
    pub fn request_id(&self, request: &[u8]) -> Option<String> {
        let field = self.request_id.as_ref()?;
        let message = unframed(request)?;
        let request = DynamicMessage::decode(field.parent_message().clone(), message).ok()?;
        let tried = request.get_field_by_name("validate_only");
        let tried = tried.is_some_and(|tried| tried.as_bool() == Some(true));
        let id = request.get_field(field).as_str()?.to_owned();
        (!tried && !id.is_empty()).then_some(id)
    }
}

/// Whether a method changes nothing.
fn reads(method: &MethodDescriptor, permission: Option<&ExtensionDescriptor>) -> bool {
    // These protos are Google's and declare no permission of ours.
    if method.parent_service().full_name() == "google.longrunning.Operations" {
        return ["GetOperation", "ListOperations", "WaitOperation"].contains(&method.name());
    }
    let options = method.options();
    permission.is_some_and(|permission| {
        let declared = options.get_extension(permission);
        declared.as_str().is_some_and(|it| it.ends_with(".read"))
    })
}

/// The request with an id: its own, or a new one. `None` when it cannot be read, e.g. as it is compressed.
fn identified(field: &FieldDescriptor, request: &Bytes) -> Option<Bytes> {
    let message = unframed(request)?;
    let mut known = DynamicMessage::decode(field.parent_message().clone(), message).ok()?;
    if known.has_field(field) {
        return Some(request.clone());
    }
    known.set_field(field, Value::String(Uuid::now_v7().to_string()));
    let message = known.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).ok()?.to_be_bytes());
    framed.extend(message);
    Some(framed.into())
}

#[cfg(test)]
mod tests {
    use anklang_proto::anklang::brands::v1::{Brand, ListBrandsRequest, UpdateBrandRequest};
    use anklang_proto::google::longrunning::CancelOperationRequest;

    use super::*;

    const UPDATE: &str = "/anklang.brands.v1.BrandService/UpdateBrand";

    fn method(path: &str) -> &'static Method {
        of(path).unwrap_or_else(|| panic!("no method {path}"))
    }

    fn framed(message: &impl Message) -> Bytes {
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        [&[0][..], &length, &message].concat().into()
    }

    fn update(request_id: &str) -> UpdateBrandRequest {
        UpdateBrandRequest {
            brand: Some(Brand {
                code: "SW".into(),
                ..Default::default()
            }),
            request_id: request_id.into(),
            allow_missing: true,
            ..Default::default()
        }
    }

    #[test]
    fn changes_get_an_id_and_keep_the_one_that_they_have() {
        let (sent, safe) = method(UPDATE).repeatable(framed(&update("")));
        assert!(safe);
        let (head, message) = sent.split_at(5);
        assert_eq!(head[0], 0);
        assert_eq!(usize::from(head[4]), message.len());
        let got = UpdateBrandRequest::decode(message).expect("decodes");
        assert!(Uuid::try_parse(&got.request_id).is_ok(), "{got:?}");
        assert_eq!(update(&got.request_id), got);
        let (other, _) = method(UPDATE).repeatable(framed(&update("")));
        assert_ne!(other, sent, "another id each time");

        let own = framed(&update("0191f3a0-0000-7000-8000-000000000001"));
        assert_eq!(method(UPDATE).repeatable(own.clone()), (own, true));
    }

    #[test]
    fn the_id_of_a_change_is_read() {
        let id = "0191f3a0-0000-7000-8000-000000000001";
        let of = |request: &UpdateBrandRequest| method(UPDATE).request_id(&framed(request));
        assert_eq!(of(&update(id)).as_deref(), Some(id));
        assert_eq!(of(&update("")), None);
        let tried = UpdateBrandRequest {
            validate_only: true,
            ..update(id)
        };
        assert_eq!(of(&tried), None);
        let list = method("/anklang.brands.v1.BrandService/ListBrands");
        assert_eq!(
            list.request_id(&framed(&ListBrandsRequest::default())),
            None
        );
    }

    #[test]
    fn what_reads_may_be_repeated_as_it_is() {
        let request = framed(&ListBrandsRequest::default());
        for path in [
            "/anklang.brands.v1.BrandService/ListBrands",
            "/anklang.reach.v1.ReachService/GetReach",
            "/google.longrunning.Operations/WaitOperation",
        ] {
            let (sent, safe) = method(path).repeatable(request.clone());
            assert_eq!((sent, safe), (request.clone(), true), "{path}");
        }
    }

    #[test]
    fn what_changes_and_takes_no_id_is_not_repeated() {
        let request = framed(&CancelOperationRequest::default());
        for path in [
            "/google.longrunning.Operations/CancelOperation",
            "/anklang.handover.v1.DeliveryService/ReplayDeadDeliveries",
        ] {
            assert!(!method(path).repeatable(request.clone()).1, "{path}");
        }
        // Compressed: whether it has an id cannot be seen.
        let mut compressed = framed(&update("")).to_vec();
        compressed[0] = 1;
        let compressed = Bytes::from(compressed);
        assert_eq!(
            method(UPDATE).repeatable(compressed.clone()),
            (compressed, false)
        );
    }

    #[test]
    fn streams_are_known_and_strange_methods_are_not() {
        assert!(method("/anklang.imports.v1.ImportService/Import").takes_stream);
        let watch = method("/anklang.operations.v1.OperationProgressService/WatchOperation");
        assert!(watch.gives_stream && !watch.takes_stream);
        assert!(of("/grpc.health.v1.Health/Check").is_none());
    }
}

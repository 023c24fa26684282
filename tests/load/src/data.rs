//! Customers as CSV, made while they are sent.

use anklang_proto::anklang::imports::v1::{self as imports, ImportEntity};
use anklang_testkit::Client;
use anyhow::{Result, ensure};
use futures::{StreamExt, stream};
use imports::import_request::Part;

/// The tenant.
pub const TENANT: &str = "load";

/// Rows in a part of the stream.
const ROWS_PER_PART: usize = 2_000;

type Row = fn(usize) -> String;

/// One file.
pub struct File {
    /// What it is.
    pub entity: ImportEntity,
    /// The tables that it fills.
    pub tables: &'static [&'static str],
    header: &'static str,
    row: Row,
    /// As many rows as accounts, else a few.
    pub large: bool,
}

/// All files in order.
pub fn files() -> Vec<File> {
    let small = |entity, header, row| File {
        entity,
        tables: &[],
        header,
        row,
        large: false,
    };
    let large = |entity, tables, header, row| File {
        entity,
        tables,
        header,
        row,
        large: true,
    };
    vec![
        small(ImportEntity::Brands, "code,name,sender_email", |_| {
            "sw,Stadtwerke,info@sw.example".into()
        }),
        small(
            ImportEntity::Products,
            "number,name,division,brand_code",
            |_| "P,Strom,electricity,sw".into(),
        ),
        small(
            ImportEntity::ProductVersions,
            "product_number,code,name,valid_from,base_price_per_year,unit_price_per_kwh,currency",
            |i| format!("P,V{i},Tarif {i},2020-01-01,12{i},0.3{i},EUR"),
        ),
        large(
            ImportEntity::Customers,
            &["customer"],
            "number,kind,salutation,first_name,last_name,birth_date,street,house_number,postal_code,city",
            |i| {
                format!(
                    "{i:08},person,female,Erika,Muster{},19{:02}-01-02,Hauptstraße,{},{:05},Musterstadt",
                    i % 9_973,
                    40 + i % 60,
                    1 + i % 200,
                    10_000 + i % 80_000
                )
            },
        ),
        large(
            ImportEntity::ContactPoints,
            &["contact_point"],
            "customer_number,channel,address",
            |i| format!("{i:08},mail,kunde{i}@post.example"),
        ),
        large(
            ImportEntity::Consents,
            &["consent", "customer_event"],
            "customer_number,channel,purpose,state,recorded_at,source",
            |i| format!("{i:08},mail,marketing,granted,2025-05-01T10:00:00Z,web"),
        ),
        large(
            ImportEntity::Contracts,
            &["contract"],
            "number,customer_number,brand_code,division,supply_status,site_postal_code,\
             annual_quantity_kwh,product_number,product_version_code,start_date",
            |i| {
                format!(
                    "V{i:08},{i:08},sw,electricity,{},{:05},{},P,V{},2021-03-01",
                    if i % 10 == 0 { "AB" } else { "AU" },
                    10_000 + i % 80_000,
                    1_000 + i % 9_000,
                    i % 3
                )
            },
        ),
    ]
}

/// Versions V0 to V9; nobody has the last ones.
const SMALL: [(ImportEntity, usize); 1] = [(ImportEntity::ProductVersions, 10)];

impl File {
    /// How many rows it has.
    pub fn rows(&self, accounts: usize) -> usize {
        let few = SMALL.iter().find(|(entity, _)| *entity == self.entity);
        match few {
            _ if self.large => accounts,
            Some((_, rows)) => *rows,
            None => 1,
        }
    }

    /// Imports it.
    pub async fn send(&self, client: &Client, accounts: usize) -> Result<()> {
        let (rows, row, header) = (self.rows(accounts), self.row, self.header);
        let head = Part::Header(imports::ImportHeader {
            entity: self.entity.into(),
            ..Default::default()
        });
        let parts = (0..rows).step_by(ROWS_PER_PART).map(move |from| {
            let mut csv = String::new();
            if from == 0 {
                csv += header;
                csv += "\n";
            }
            for i in from..rows.min(from + ROWS_PER_PART) {
                csv += &row(i);
                csv += "\n";
            }
            Part::Csv(csv.into())
        });
        let parts = std::iter::once(head).chain(parts);
        let requests = stream::iter(parts).map(|part| imports::ImportRequest { part: Some(part) });
        let mut responses = client.imports().import(requests).await?.into_inner();
        let mut last = imports::ImportResponse::default();
        while let Some(response) = responses.message().await? {
            last = response;
        }
        ensure!(last.done && last.failed == 0, "{last:?}");
        Ok(())
    }
}

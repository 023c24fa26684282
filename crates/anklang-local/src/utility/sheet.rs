//! The CSV files and their columns.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use csv::{Terminator, Writer, WriterBuilder};

use super::{FileInfo, Manifest};

/// One file being written.
#[derive(Debug)]
pub(super) struct Sheet {
    name: &'static str,
    path: PathBuf,
    writer: Writer<BufWriter<File>>,
    rows: u64,
}

impl Sheet {
    fn create(folder: &Path, name: &'static str, columns: &str) -> Result<Self> {
        let path = folder.join(format!("{name}.csv"));
        let file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut writer = WriterBuilder::new()
            .terminator(Terminator::CRLF)
            .from_writer(BufWriter::new(file));
        writer.write_record(columns.split(','))?;
        Ok(Self {
            name,
            path,
            writer,
            rows: 0,
        })
    }

    /// Writes one row; the number of fields is checked against the header.
    pub(super) fn row<const N: usize>(&mut self, fields: [&str; N]) -> Result<()> {
        self.writer
            .write_record(fields)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.rows += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<FileInfo> {
        self.writer
            .flush()
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(FileInfo {
            name: self.name,
            path: self.path,
            rows: self.rows,
        })
    }
}

/// All files of the utility.
#[derive(Debug)]
pub(super) struct Sheets {
    pub(super) brands: Sheet,
    pub(super) products: Sheet,
    pub(super) product_versions: Sheet,
    pub(super) customers: Sheet,
    pub(super) contact_points: Sheet,
    pub(super) consents: Sheet,
    pub(super) contracts: Sheet,
    pub(super) contract_items: Sheet,
    pub(super) orders: Sheet,
    pub(super) order_lines: Sheet,
    pub(super) attributes: Sheet,
}

impl Sheets {
    pub(super) fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let sheet = |name, columns| Sheet::create(folder, name, columns);
        Ok(Self {
            brands: sheet(
                "brands",
                "code,name,legal_name,street,house_number,postal_code,city,country,phone,email,\
                 website,register_line,vat_id,bank_line,sender_name,sender_email,reply_to",
            )?,
            products: sheet("products", "number,name,division,brand_code")?,
            product_versions: sheet(
                "product_versions",
                "product_number,code,name,valid_from,valid_to,base_price_per_year,\
                 unit_price_per_kwh,currency",
            )?,
            customers: sheet(
                "customers",
                "number,kind,salutation,title,first_name,last_name,company_name,customer_group,\
                 language,time_zone,birth_date,street,house_number,postal_code,city,country",
            )?,
            contact_points: sheet("contact_points", "customer_number,channel,address,position")?,
            consents: sheet(
                "consents",
                "customer_number,channel,purpose,state,source,evidence,recorded_at",
            )?,
            contracts: sheet(
                "contracts",
                "number,customer_number,brand_code,division,supply_status,site_street,\
                 site_house_number,site_postal_code,site_city,annual_quantity_kwh,\
                 product_number,product_version_code,start_date,end_date,notice_date",
            )?,
            contract_items: sheet("contract_items", "contract_number,code,name,quantity")?,
            orders: sheet(
                "orders",
                "number,customer_number,brand_code,ordered_at,currency",
            )?,
            order_lines: sheet(
                "order_lines",
                "order_number,line,product_number,product_name,product_group,quantity,unit_price",
            )?,
            attributes: sheet("attributes", "entity,number,key,type,value")?,
        })
    }

    pub(super) fn finish(self) -> Result<Manifest> {
        let files = [
            self.brands,
            self.products,
            self.product_versions,
            self.customers,
            self.contact_points,
            self.consents,
            self.contracts,
            self.contract_items,
            self.orders,
            self.order_lines,
            self.attributes,
        ];
        Ok(Manifest {
            files: files
                .into_iter()
                .map(Sheet::finish)
                .collect::<Result<_>>()?,
        })
    }
}

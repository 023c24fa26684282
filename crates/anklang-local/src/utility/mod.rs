//! An invented German utility as CSV files: two brands, their tariffs, customers with
//! addresses, contact points and consents, supply contracts, a few shop orders.
//!
//! # Guarantees
//! - The same size, seed and date give the same bytes (with the same version of this
//!   program): no clock, no system randomness.
//! - Memory does not grow with the size: a million customers are written in one pass.
//! - Every number that refers to something refers to a row that exists; numbers and e-mail
//!   addresses are unique, except where two people of one household share a landline.
//! - Nobody real can be reached: e-mail addresses are under the domains reserved by
//!   RFC 2606, phone numbers are those the Bundesnetzagentur keeps for films and books
//!   (Mitteilung 148/2021). There are about 5,200 of these, so customers share them.
//!   Postcodes and towns are real, people, streets in towns, brands and tariffs are not.
//!
//! # Format
//! UTF-8, a header line, RFC 4180 with `CR LF`. Dates are `YYYY-MM-DD`, times RFC 3339 in
//! UTC, decimals have a point, an empty field means none. Periods include their last day.
//! `notice_date` is the day a contract was terminated on; running contracts have none.
//! Supply status is `AU` (supplied, open-ended), `AB` (supplied, fixed term) or `GE`
//! (terminated, its end being past or to come).
//!
//! Tariff versions are dated from the year of the given date: two old ones, one that is
//! valid now, and for some products one for next year, on which nobody is yet.

mod catalogue;
mod contact;
mod contract;
mod customer;
mod order;
mod pick;
mod sheet;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use chrono::NaiveDate;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Binomial, Distribution};

use catalogue::Catalogue;
use contract::Supply;
use customer::Customer;
use pick::Words;
use sheet::Sheets;

/// How much to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Customers, 1 to 10,000,000.
    pub customers: u64,
    /// Contracts, up to 100,000,000. If there are at least as many as customers, every
    /// customer has one or more.
    pub contracts: u64,
}

/// One file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// The name without folder and ending, such as `contact_points`.
    pub name: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Rows without the header line.
    pub rows: u64,
}

/// What was written, in an order in which it can be imported: what is referred to first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// All files.
    pub files: Vec<FileInfo>,
}

impl Manifest {
    /// The file of that name, such as `contracts`.
    pub fn file(&self, name: &str) -> Option<&FileInfo> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Rows of the file of that name; 0 if there is none.
    pub fn rows(&self, name: &str) -> u64 {
        self.file(name).map_or(0, |file| file.rows)
    }
}

/// The generator.
#[derive(Debug)]
pub struct Utility;

/// Random streams: one for what concerns all customers, then one for each customer, so that
/// a customer does not change when something is drawn for another one.
const COMMON_STREAM: u64 = 0;
const FIRST_CUSTOMER_STREAM: u64 = 1;

impl Utility {
    /// Writes the files into `folder`, which is made if missing; files of the same names are
    /// replaced. `as_of` is the day on which the utility looks like this. Blocking: a few
    /// seconds for 100,000 customers.
    ///
    /// # Errors
    /// A size out of range; the files cannot be written.
    pub fn generate(size: Size, seed: u64, as_of: NaiveDate, folder: &Path) -> Result<Manifest> {
        ensure!(
            (1..=10_000_000).contains(&size.customers),
            "1 to 10,000,000 customers can be made, not {}",
            size.customers
        );
        ensure!(
            size.contracts <= 100_000_000,
            "up to 100,000,000 contracts can be made, not {}",
            size.contracts
        );
        let words = Words::read();
        let catalogue = Catalogue::of(as_of);
        let mut sheets = Sheets::create(folder)?;
        catalogue.write(&mut sheets)?;

        let mut common = stream(seed, COMMON_STREAM);
        let mut supply = Supply::new(size, as_of);
        let mut previous = None;
        for index in 0..size.customers {
            let mut rng = stream(seed, FIRST_CUSTOMER_STREAM + index);
            let share = supply.share(size.customers - index, &mut common)?;
            let customer = Customer::draw(&mut rng, &words, index, as_of, previous.as_ref());
            customer.write(&mut sheets)?;
            contact::write(&mut rng, &mut sheets, &customer, as_of)?;
            let articles = order::write(&mut rng, &mut sheets, &customer, as_of)?;
            customer.write_attributes(&mut rng, &mut sheets, &articles)?;
            for _ in 0..share {
                supply.write(&mut rng, &mut sheets, &words, &catalogue, &customer)?;
            }
            supply.next_customer();
            previous = Some(customer);
        }
        sheets.finish()
    }
}

impl Supply {
    /// How many contracts the next customer has, `left` customers being left with it: one
    /// each if there are enough, the others spread by chance (a multinomial distribution,
    /// drawn one by one), so that in the end the total is exact.
    fn share(&mut self, left: u64, rng: &mut ChaCha8Rng) -> Result<u64> {
        // Cannot be out of range: 0 < 1/left <= 1.
        let extra = Binomial::new(self.extra_left, 1.0 / left as f64)?.sample(rng);
        self.extra_left -= extra;
        Ok(self.base + extra)
    }
}

fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

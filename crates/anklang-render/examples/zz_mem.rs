use anklang_render::model::OfferData;
use anklang_render::{DocumentTemplate, shipped};
fn rss() -> String { std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmRSS")).unwrap().to_string() }
fn main() {
    let t = DocumentTemplate::compile(shipped::OFFER_LETTER_DE).unwrap();
    let threads: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let total: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let n = std::sync::atomic::AtomicUsize::new(0);
    let start = std::time::Instant::now();
    std::thread::scope(|s| for _ in 0..threads { s.spawn(|| loop {
        let i = n.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if i >= total { break }
        let mut d = OfferData::sample();
        d.offer.number = format!("A-{i}"); d.customer.last_name = format!("Name{i}"); d.customer.street = format!("Straße {i}");
        d.customer = d.customer.with_salutation_line(); d.offer.annual_quantity_kwh = (1000 + i).into();
        t.render(&d).unwrap();
        if i % (total / 10) == 0 || (i < 200 && i % 20 == 0) { println!("{i} {} {:?}", rss(), start.elapsed()); }
    }); });
    println!("{:?} per letter", start.elapsed() / total as u32);
}

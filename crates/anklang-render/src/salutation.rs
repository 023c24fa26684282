//! The first line of a German letter.

use crate::model::Customer;

/// The salutation line of a customer, by the first rule that applies:
///
/// 1. Salutation *Firma*, or nobody is named → `Sehr geehrte Damen und Herren,`
/// 2. *Frau*, *Herr* (*Herrn*) or *Familie* and a last name →
///    `Sehr geehrte Frau Dr. Müller,` / `Sehr geehrter Herr Müller,` /
///    `Sehr geehrte Familie Müller,` (a family bears no title). This also holds
///    for the contact person of a company.
/// 3. Any other salutation, or none → neutral: `Guten Tag Dr. Alex Kim,`
///
/// Nobody is named when first and last name are empty and the display name is
/// empty, too, or belongs to a company. White space is collapsed, so that the
/// result is one line.
pub fn salutation_line(customer: &Customer) -> String {
    const NOBODY: &str = "Sehr geehrte Damen und Herren,";
    let salutation = words([&customer.salutation]).to_lowercase();
    let last_name = words([&customer.last_name]);
    let titled = words([&customer.title, &last_name]);
    let form = match salutation.as_str() {
        "firma" => return NOBODY.to_owned(),
        "frau" | "fr." => Some(format!("Sehr geehrte Frau {titled},")),
        "herr" | "herrn" | "hr." => Some(format!("Sehr geehrter Herr {titled},")),
        "familie" => Some(format!("Sehr geehrte Familie {last_name},")),
        _ => None,
    };
    if let Some(form) = form.filter(|_| !last_name.is_empty()) {
        return form;
    }
    let name = if !words([&customer.first_name, &last_name]).is_empty() {
        words([&customer.title, &customer.first_name, &last_name])
    } else if words([&customer.company_name]).is_empty() {
        words([&customer.display_name])
    } else {
        String::new()
    };
    if name.is_empty() {
        NOBODY.to_owned()
    } else {
        format!("Guten Tag {name},")
    }
}

/// All words of all parts with one space between them; control characters
/// separate words as white space does.
fn words<'a>(parts: impl IntoIterator<Item = &'a String>) -> String {
    parts
        .into_iter()
        .flat_map(|part| part.split(|c: char| c.is_whitespace() || c.is_control()))
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// salutation, title, first name, last name, company, display name → line
    type Case = ([&'static str; 6], &'static str);

    const CASES: &[Case] = &[
        (
            ["Frau", "Dr.", "Eva", "Müller", "", ""],
            "Sehr geehrte Frau Dr. Müller,",
        ),
        (
            ["Herr", "", "Jan", "Groß", "", ""],
            "Sehr geehrter Herr Groß,",
        ),
        (
            ["Herrn", "Prof. Dr.", "", "Özil", "", ""],
            "Sehr geehrter Herr Prof. Dr. Özil,",
        ),
        (
            [" frau ", "", "", "O'Neil", "", ""],
            "Sehr geehrte Frau O'Neil,",
        ),
        (
            ["Familie", "Dr.", "", "Weiß", "", ""],
            "Sehr geehrte Familie Weiß,",
        ),
        (["", "", "Alex", "Kim", "", ""], "Guten Tag Alex Kim,"),
        (
            ["Divers", "Dr.", "Alex", "Kim", "", ""],
            "Guten Tag Dr. Alex Kim,",
        ),
        (["Frau", "", "Eva", "", "", ""], "Guten Tag Eva,"),
        (["", "", "", "", "", "Kim Alex"], "Guten Tag Kim Alex,"),
        (
            ["", "", "", "", "Stahl AG", "Stahl AG"],
            "Sehr geehrte Damen und Herren,",
        ),
        (
            ["Firma", "", "Eva", "Müller", "Stahl AG", ""],
            "Sehr geehrte Damen und Herren,",
        ),
        (
            ["Frau", "", "Eva", "Müller", "Stahl AG", ""],
            "Sehr geehrte Frau Müller,",
        ),
        (
            ["Herr", "", "", "", "Stahl AG", "Stahl AG"],
            "Sehr geehrte Damen und Herren,",
        ),
        (
            ["", "Dr.", "", "", "", ""],
            "Sehr geehrte Damen und Herren,",
        ),
        (["", "", "", "", "", ""], "Sehr geehrte Damen und Herren,"),
        (
            ["Frau", "", "", "Mül\r\nler\u{0}x", "", ""],
            "Sehr geehrte Frau Mül ler x,",
        ),
    ];

    #[test]
    fn every_rule() {
        for (
            [
                salutation,
                title,
                first_name,
                last_name,
                company_name,
                display_name,
            ],
            line,
        ) in CASES
        {
            let customer = Customer {
                salutation: (*salutation).into(),
                title: (*title).into(),
                first_name: (*first_name).into(),
                last_name: (*last_name).into(),
                company_name: (*company_name).into(),
                display_name: (*display_name).into(),
                ..Customer::default()
            };
            assert_eq!(&salutation_line(&customer), line, "{customer:?}");
        }
    }
}

//! German names of countries.

/// The German name of an ISO 3166-1 alpha-2 code; the English one where it is not listed here.
pub fn country_name(code: &str) -> String {
    if let Ok(at) = NAMES.binary_search_by_key(&code, |(code, _)| code) {
        return NAMES[at].1.to_owned();
    }
    let country = code.parse::<iso_country::Country>();
    country.map_or_else(|_| code.to_owned(), |country| country.name().to_owned())
}

/// By code.
const NAMES: [(&str, &str); 109] = [
    ("AD", "Andorra"),
    ("AE", "Vereinigte Arabische Emirate"),
    ("AL", "Albanien"),
    ("AM", "Armenien"),
    ("AR", "Argentinien"),
    ("AT", "Österreich"),
    ("AU", "Australien"),
    ("AZ", "Aserbaidschan"),
    ("BA", "Bosnien und Herzegowina"),
    ("BD", "Bangladesch"),
    ("BE", "Belgien"),
    ("BG", "Bulgarien"),
    ("BH", "Bahrain"),
    ("BR", "Brasilien"),
    ("BY", "Belarus"),
    ("CA", "Kanada"),
    ("CH", "Schweiz"),
    ("CL", "Chile"),
    ("CM", "Kamerun"),
    ("CN", "China"),
    ("CO", "Kolumbien"),
    ("CR", "Costa Rica"),
    ("CU", "Kuba"),
    ("CY", "Zypern"),
    ("CZ", "Tschechien"),
    ("DE", "Deutschland"),
    ("DK", "Dänemark"),
    ("DZ", "Algerien"),
    ("EC", "Ecuador"),
    ("EE", "Estland"),
    ("EG", "Ägypten"),
    ("ES", "Spanien"),
    ("ET", "Äthiopien"),
    ("FI", "Finnland"),
    ("FO", "Färöer"),
    ("FR", "Frankreich"),
    ("GB", "Vereinigtes Königreich"),
    ("GE", "Georgien"),
    ("GH", "Ghana"),
    ("GI", "Gibraltar"),
    ("GL", "Grönland"),
    ("GR", "Griechenland"),
    ("HK", "Hongkong"),
    ("HR", "Kroatien"),
    ("HU", "Ungarn"),
    ("ID", "Indonesien"),
    ("IE", "Irland"),
    ("IL", "Israel"),
    ("IN", "Indien"),
    ("IQ", "Irak"),
    ("IR", "Iran"),
    ("IS", "Island"),
    ("IT", "Italien"),
    ("JO", "Jordanien"),
    ("JP", "Japan"),
    ("KE", "Kenia"),
    ("KH", "Kambodscha"),
    ("KR", "Südkorea"),
    ("KW", "Kuwait"),
    ("KZ", "Kasachstan"),
    ("LB", "Libanon"),
    ("LI", "Liechtenstein"),
    ("LK", "Sri Lanka"),
    ("LT", "Litauen"),
    ("LU", "Luxemburg"),
    ("LV", "Lettland"),
    ("LY", "Libyen"),
    ("MA", "Marokko"),
    ("MC", "Monaco"),
    ("MD", "Moldau"),
    ("ME", "Montenegro"),
    ("MK", "Nordmazedonien"),
    ("MT", "Malta"),
    ("MX", "Mexiko"),
    ("MY", "Malaysia"),
    ("NG", "Nigeria"),
    ("NL", "Niederlande"),
    ("NO", "Norwegen"),
    ("NP", "Nepal"),
    ("NZ", "Neuseeland"),
    ("PE", "Peru"),
    ("PH", "Philippinen"),
    ("PK", "Pakistan"),
    ("PL", "Polen"),
    ("PT", "Portugal"),
    ("PY", "Paraguay"),
    ("QA", "Katar"),
    ("RO", "Rumänien"),
    ("RS", "Serbien"),
    ("RU", "Russland"),
    ("SA", "Saudi-Arabien"),
    ("SE", "Schweden"),
    ("SG", "Singapur"),
    ("SI", "Slowenien"),
    ("SK", "Slowakei"),
    ("SM", "San Marino"),
    ("SN", "Senegal"),
    ("SY", "Syrien"),
    ("TH", "Thailand"),
    ("TN", "Tunesien"),
    ("TR", "Türkei"),
    ("TW", "Taiwan"),
    ("UA", "Ukraine"),
    ("US", "Vereinigte Staaten"),
    ("UY", "Uruguay"),
    ("VA", "Vatikanstadt"),
    ("VN", "Vietnam"),
    ("XK", "Kosovo"),
    ("ZA", "Südafrika"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_german_where_they_are_known() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(country_name("DE"), "Deutschland");
        assert_eq!(country_name("AT"), "Österreich");
        assert_eq!(country_name("FJ"), "Fiji");
        assert_eq!(country_name(""), "");
        assert_eq!(country_name("??"), "??");
    }
}

//! The fields of a report that is made for machines: groups of header lines, separated by empty
//! ones (RFC 3464, RFC 5965).

/// The fields of one group.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The groups of a part; those without fields are left out.
    pub(super) fn groups(part: &[u8]) -> Vec<Self> {
        let text = String::from_utf8_lossy(part);
        let mut groups = vec![Self(Vec::new())];
        for line in text.lines() {
            let group = groups.last_mut().expect("begins with one");
            if line.trim().is_empty() {
                groups.push(Self(Vec::new()));
            } else if line.starts_with([' ', '\t']) {
                // A field goes on.
                if let Some((_, value)) = group.0.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                let field = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
                group.0.push(field);
            }
        }
        groups.retain(|group| !group.0.is_empty());
        groups
    }

    /// The first field of this (lower case) name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| &value[..])
    }

    /// The same, without the type in front: `smtp; 550 …`, `rfc822; erika@example.org`.
    pub(super) fn typed(&self, name: &str) -> Option<&str> {
        let value = self.get(name)?;
        Some(value.split_once(';').map_or(value, |(_, rest)| rest.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_fold_and_are_told_apart() {
        let part = b"Reporting-MTA: dns; mx\r\nArrival-Date: x\r\n\r\nAction : failed\r\n\
            Diagnostic-Code: smtp; 550\r\n    no such user\r\nnonsense\r\n \t\r\n\r\nStatus: 2\r\n";
        let groups = Fields::groups(part);
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[0].typed("reporting-mta"), Some("mx"));
        assert_eq!(groups[1].get("action"), Some("failed"));
        assert_eq!(groups[1].typed("diagnostic-code"), Some("550 no such user"));
        assert_eq!(groups[1].get("status"), None);
        assert_eq!(groups[2].typed("status"), Some("2"));
        assert!(Fields::groups(b"\r\n\r\n \xff\r\n").is_empty());
    }
}

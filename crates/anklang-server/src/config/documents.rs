//! The section `documents`.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::Reader;

/// Where documents lie, how long one may take, and how they are bundled.
#[derive(Debug, Clone)]
pub struct DocumentsConfig {
    /// Where they lie.
    pub store: StoreConfig,
    /// At most so many letters in one print file.
    pub letters_per_print_file: usize,
    /// How long one letter may take.
    pub letter_time: Duration,
}

/// A kind of document store.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// A folder.
    Folder(PathBuf),
    /// A bucket.
    S3(S3Config),
}

/// A bucket of S3. What is empty is left to the environment.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// URL of the service; AWS when empty.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// What all names in it begin with.
    pub prefix: String,
    /// The region.
    pub region: String,
    /// Whether the bucket is in the path of URLs.
    pub path_style: bool,
    /// Id of the key, and the key.
    pub key: Option<(String, SecretString)>,
    /// A file with both.
    pub credentials_file: Option<PathBuf>,
}

impl Reader {
    pub(super) fn documents(&mut self) -> Option<DocumentsConfig> {
        let kind = self.text("documents.store");
        let folder = self.text("documents.folder");
        let letters = self.whole("documents.letters_per_print_file", 1..=100_000);
        let letter_time = self.whole("documents.letter_seconds", 1..=600);
        let is_s3 = kind.as_deref() == Some("s3");
        let s3 = self.s3(is_s3);
        let store = match &kind?[..] {
            "folder" => {
                let folder = folder?;
                if folder.is_empty() {
                    self.violations.add("documents.folder", "must not be empty");
                    return None;
                }
                StoreConfig::Folder(PathBuf::from(folder))
            }
            "s3" => StoreConfig::S3(s3?),
            _ => {
                self.violations
                    .add("documents.store", "must be \"folder\" or \"s3\"");
                return None;
            }
        };
        Some(DocumentsConfig {
            store,
            letters_per_print_file: usize::try_from(letters?).ok()?,
            letter_time: Duration::from_secs(letter_time?),
        })
    }

    fn s3(&mut self, needed: bool) -> Option<S3Config> {
        let path = |key: &str| format!("documents.s3.{key}");
        let endpoint = self.text(&path("endpoint")).and_then(|text| {
            let is_url = text.parse::<http::Uri>().is_ok_and(|url| {
                matches!(url.scheme_str(), Some("http" | "https")) && url.query().is_none()
            });
            let parsed = match text.is_empty() || is_url {
                true => Ok(text.trim_end_matches('/').to_owned()),
                false => Err("must begin with https:// or http://, e.g. https://s3.example.com"),
            };
            self.violations.check(path("endpoint"), parsed)
        });
        let bucket = self.text(&path("bucket")).and_then(|bucket| {
            let fits = (3..=63).contains(&bucket.len())
                && bucket
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
            if needed && !fits {
                self.violations.add(
                    path("bucket"),
                    "must be the name of a bucket: 3 to 63 of a–z, 0–9, dots and hyphens",
                );
                return None;
            }
            Some(bucket)
        });
        let prefix = self.text(&path("prefix")).and_then(|prefix| {
            let parsed = match object_store::path::Path::parse(&prefix) {
                Ok(path) if path.as_ref() == prefix => Ok(prefix),
                _ => Err("must be names with slashes between them, e.g. anklang/production"),
            };
            self.violations.check(path("prefix"), parsed)
        });
        let region = self.text(&path("region"));
        let path_style = self.flag(&path("path_style"));
        let id = self.text(&path("access_key_id"));
        let secret = self.text(&path("secret_access_key"));
        let file = self.text(&path("credentials_file"));
        let (id, secret, file) = (id?, secret?, file?);
        if id.is_empty() != secret.is_empty() {
            self.violations.add(
                path("access_key_id"),
                "and secret_access_key must both be given, or neither",
            );
            return None;
        }
        Some(S3Config {
            endpoint: endpoint?,
            bucket: bucket?,
            prefix: prefix?,
            region: region?,
            path_style: path_style?,
            key: (!id.is_empty()).then(|| (id, SecretString::from(secret))),
            credentials_file: (!file.is_empty()).then(|| PathBuf::from(file)),
        })
    }
}

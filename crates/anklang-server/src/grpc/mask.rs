//! `update_mask` (AIP-134): which fields of a resource an update is about.
//!
//! Generic over the messages: paths are checked against the descriptors, with the `field_behavior`
//! that the protos give each field, and merged by reflection. Handlers then check the merged
//! resource by the rules of a whole one.

use std::sync::LazyLock;

use anklang_domain::Violations;
use prost::{DecodeError, Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    Value,
};
use prost_types::FieldMask;

/// The most paths of a mask.
const MAX_PATHS: usize = 100;

/// Numbers of `google.api.FieldBehavior` that an update cannot change: OUTPUT_ONLY, IMMUTABLE,
/// IDENTIFIER.
const FIXED: [i32; 3] = [3, 5, 8];

/// What the protos say, options included.
pub(crate) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(anklang_proto::DESCRIPTORS).expect("made when the program was built")
});

static BEHAVIOR: LazyLock<ExtensionDescriptor> = LazyLock::new(|| {
    POOL.get_extension_by_name("google.api.field_behavior")
        .expect("our protos import it")
});

/// The fields that an update names, each as the way to it from the resource.
pub struct Mask {
    paths: Vec<Vec<FieldDescriptor>>,
}

impl Mask {
    /// Reads a mask for messages of type `of`; `None` when all fields are meant. All paths that
    /// are wrong are told at `update_mask`.
    pub fn read(mask: &FieldMask, of: &str, violations: &mut Violations) -> Option<Self> {
        let all: &[String] = &mask.paths;
        if all.is_empty() || all == ["*"] {
            return None;
        }
        if all.len() > MAX_PATHS {
            violations.add(
                "update_mask",
                format!("must have at most {MAX_PATHS} paths"),
            );
        }
        let message = POOL.get_message_by_name(of)?;
        let mut paths = Vec::new();
        for text in all.iter().take(MAX_PATHS) {
            let read = path(&message, text).map_err(|reason| format!("{text:.100}: {reason}"));
            paths.extend(violations.check("update_mask", read));
        }
        Some(Mask { paths })
    }

    /// What there is, with the named fields as they are given.
    ///
    /// # Errors
    /// None with messages that the mask was read for.
    pub fn merge<M: Message + Name + Default>(
        &self,
        current: &M,
        given: &M,
    ) -> Result<M, DecodeError> {
        let Some(descriptor) = POOL.get_message_by_name(&M::full_name()) else {
            return Ok(M::default());
        };
        let dynamic =
            |message: &M| DynamicMessage::decode(descriptor.clone(), &message.encode_to_vec()[..]);
        let (mut merged, given) = (dynamic(current)?, dynamic(given)?);
        for path in &self.paths {
            copy(&given, &mut merged, path);
        }
        merged.transcode_to()
    }
}

/// The way to a field, if an update can change it.
fn path(message: &MessageDescriptor, text: &str) -> Result<Vec<FieldDescriptor>, String> {
    if text == "*" {
        return Err("must stand alone".into());
    }
    let mut message = Some(message.clone());
    let mut way = Vec::new();
    for name in text.split('.') {
        let Some(within) = message else {
            return Err("only goes into single messages, not into lists, maps or values".into());
        };
        let field = within
            .get_field_by_name(name)
            .ok_or_else(|| format!("there is no such field in {}", within.name()))?;
        if name == "etag" || is_fixed(&field) {
            return Err("is not changed by an update".into());
        }
        message = match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => Some(inner),
            _ => None,
        };
        way.push(field);
    }
    Ok(way)
}

fn is_fixed(field: &FieldDescriptor) -> bool {
    let options = field.options();
    let behavior = options.get_extension(&BEHAVIOR);
    let fixed = |value: &Value| value.as_enum_number().is_some_and(|n| FIXED.contains(&n));
    behavior.as_list().is_some_and(|all| all.iter().any(fixed))
}

/// Puts the field at the end of `path` into `to` as it is in `from`; unset there, it is unset here.
fn copy(from: &DynamicMessage, to: &mut DynamicMessage, path: &[FieldDescriptor]) {
    match path {
        [] => {}
        [field] if from.has_field(field) => {
            to.set_field(field, from.get_field(field).into_owned());
        }
        [field] => to.clear_field(field),
        // A message that neither has stays unset.
        [field, ..] if !from.has_field(field) && !to.has_field(field) => {}
        [field, rest @ ..] => {
            let inner = from.get_field(field);
            if let (Some(from), Some(to)) =
                (inner.as_message(), to.get_field_mut(field).as_message_mut())
            {
                copy(from, to, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anklang_proto::anklang::contracts::v1::{Contract, ContractItem};
    use anklang_proto::anklang::templates::v1 as templates;
    use anklang_proto::google::r#type::Date;

    use super::*;

    fn read<M: Name>(paths: &[&str]) -> (Option<Mask>, Vec<String>) {
        let mut violations = Violations::new();
        let mask = FieldMask {
            paths: paths.iter().map(|p| (*p).to_owned()).collect(),
        };
        let read = Mask::read(&mask, &M::full_name(), &mut violations);
        let told = violations.iter().map(|v| {
            assert_eq!(v.field, "update_mask");
            v.reason.clone()
        });
        (read, told.collect())
    }

    fn merge<M: Message + Name + Default>(paths: &[&str], current: &M, given: &M) -> M {
        let (mask, told) = read::<M>(paths);
        assert!(told.is_empty(), "{told:?}");
        mask.expect("not all")
            .merge(current, given)
            .expect("merges")
    }

    #[test]
    fn all_paths_that_are_wrong_are_told() {
        let wrong = [
            "colour",
            "number",
            "name",
            "create_time",
            "etag",
            "items.code",
            "attributes.solar",
            "end_date.hour",
            "division.x",
            "*",
            "",
            "end_date.",
        ];
        let (_, told) = read::<Contract>(&wrong);
        assert_eq!(told.len(), wrong.len(), "{told:#?}");
        assert!(read::<Contract>(&["items", "end_date.year"]).1.is_empty());
        assert!(read::<Contract>(&[]).0.is_none() && read::<Contract>(&["*"]).0.is_none());
    }

    #[test]
    fn named_fields_are_taken_and_others_left() {
        let date = |year, month, day| Some(Date { year, month, day });
        let current = Contract {
            number: "V1".into(),
            division: "gas".into(),
            site_city: "Lindenau".into(),
            end_date: date(2026, 12, 31),
            items: vec![ContractItem::default(); 2],
            ..Default::default()
        };
        let given = Contract {
            number: "V2".into(),
            division: "heat".into(),
            end_date: date(2027, 1, 1),
            start_date: date(2020, 1, 1),
            ..Default::default()
        };
        let merged = merge(&["end_date.year", "items", "site_city"], &current, &given);
        assert_eq!(
            merged,
            Contract {
                end_date: date(2027, 12, 31),
                items: Vec::new(),
                site_city: String::new(),
                ..current.clone()
            }
        );
        // Unset in both, it stays unset; given, it is made.
        let paths = ["notice_date.day", "start_date.month"];
        let merged = merge(&paths, &current, &given);
        assert_eq!(merged.notice_date, None);
        assert_eq!(merged.start_date, date(0, 1, 0));
    }

    #[test]
    fn a_choice_stays_one() {
        let message = |subject: &str, text: &str| templates::Template {
            content: Some(templates::template::Content::Message(
                templates::MessageContent {
                    subject: subject.into(),
                    text_body: text.into(),
                    ..Default::default()
                },
            )),
            ..Default::default()
        };
        let merged = merge(&["message.subject"], &message("a", "b"), &message("c", "d"));
        assert_eq!(merged, message("c", "b"));
        let document = templates::Template {
            content: Some(templates::template::Content::Document(
                templates::DocumentContent::default(),
            )),
            ..Default::default()
        };
        assert_eq!(
            merge(&["message"], &document, &message("c", "d")),
            message("c", "d")
        );
    }
}

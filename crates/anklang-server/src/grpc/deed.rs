//! What the audit log keeps of a call that changes something: who made it, the hash of its request, and which
//! resources request and response name, found by reflection over the descriptors, for all messages alike.

use std::sync::LazyLock;

use anklang_proto::anklang::imports::v1::ImportHeader;
use anklang_store::audit::{Deed, MOST_RESOURCES};
use anklang_store::call::Call;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use prost_types::Any;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::mask::POOL;
use super::{ApiError, ApiResult};

/// Messages in messages are looked into so deep, and no deeper.
const DEEPEST: u32 = 16;
/// Longer texts are taken for no names, in bytes.
const LONGEST_NAME: usize = 256;

/// Names of what is no message of ours.
const OTHERS: [&str; 2] = ["operations/{operation}", "users/{user}"];

/// How names of resources look, by segments: the protos say it with each resource.
static PATTERNS: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    let mut patterns: Vec<String> = OTHERS.map(str::to_owned).into();
    if let Some(resource) = POOL.get_extension_by_name("google.api.resource") {
        for message in POOL.all_messages() {
            let options = message.options();
            let resource = options.get_extension(&resource);
            let pattern = resource
                .as_message()
                .and_then(|r| r.get_field_by_name("pattern"));
            let all = pattern.as_deref().and_then(Value::as_list);
            patterns.extend(
                all.into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned),
            );
        }
    }
    let segments = |pattern: String| pattern.split('/').map(str::to_owned).collect();
    patterns.into_iter().map(segments).collect()
});

/// A request that may come to change something.
pub struct Asked {
    request_id: Option<Uuid>,
    hash: [u8; 32],
    names: Names,
}

impl Asked {
    /// This one, without an id.
    pub fn of<R: Message + Name>(request: &R) -> Self {
        let encoded = request.encode_to_vec();
        Asked {
            request_id: None,
            hash: Sha256::digest(&encoded).into(),
            names: Names::of(&R::full_name(), &encoded),
        }
    }

    /// The same with the caller's id of the call.
    pub fn with_id(self, request_id: Option<Uuid>) -> Self {
        Asked { request_id, ..self }
    }

    /// What is kept of it, when its response names nothing.
    ///
    /// # Errors
    /// When nobody makes the call: then nothing may be changed.
    pub fn deed(&self) -> ApiResult<Deed> {
        self.answered(&())
    }

    /// What is kept of it, when that is its response.
    ///
    /// # Errors
    /// As [`Asked::deed`].
    pub fn answered<R: Message + Name>(&self, response: &R) -> ApiResult<Deed> {
        let call =
            Call::current().ok_or_else(|| ApiError::Internal("a change by nobody".into()))?;
        let answered = Names::of(&R::full_name(), &response.encode_to_vec());
        let mut resources: Vec<String> = Vec::new();
        for name in self.names.followed_by(&answered) {
            if resources.len() < MOST_RESOURCES && !resources.contains(name) {
                resources.push(name.clone());
            }
        }
        Ok(Deed {
            call,
            resources,
            request_id: self.request_id,
            request_hash: self.hash,
        })
    }
}

/// What is kept of each chunk of an import, but for the hash of what was received.
///
/// # Errors
/// As [`Asked::deed`].
pub fn of_import(header: &ImportHeader) -> ApiResult<Deed> {
    let entity = header.entity().as_str_name();
    let entity = entity.trim_start_matches("IMPORT_ENTITY_").to_lowercase();
    Ok(Deed {
        resources: vec![format!("imports/{entity}")],
        ..Asked::of(header).deed()?
    })
}

/// Names of resources that a message holds itself, or in messages that it holds; not in lists of messages.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    /// In fields of their own, a few; what a message names before what those in it name.
    single: Vec<String>,
    /// In lists, which may be long.
    listed: Vec<String>,
}

impl Names {
    /// Of a message of that type; none when there is no such type.
    fn of(full_name: &str, encoded: &[u8]) -> Self {
        let mut names = Names::default();
        if let Some(message) = decoded(full_name, encoded) {
            names.find(&message, DEEPEST);
        }
        names
    }

    /// Finds those of a message, and of messages in it, so deep.
    fn find(&mut self, message: &DynamicMessage, deep: u32) {
        for (_, value) in message.fields() {
            match value {
                Value::String(text) => add(&mut self.single, text),
                Value::List(values) => {
                    for text in values.iter().filter_map(Value::as_str) {
                        add(&mut self.listed, text);
                    }
                }
                _ => {}
            }
        }
        let Some(deeper) = deep.checked_sub(1) else {
            return;
        };
        for (_, value) in message.fields() {
            if let Value::Message(inner) = value {
                match unpacked(inner) {
                    Some(packed) => self.find(&packed, deeper),
                    None => self.find(inner, deeper),
                }
            }
        }
    }

    /// These, then others; what may be long last.
    fn followed_by<'a>(&'a self, others: &'a Names) -> impl Iterator<Item = &'a String> {
        let single = self.single.iter().chain(&others.single);
        single.chain(&self.listed).chain(&others.listed)
    }
}

/// Adds a name that is not there yet, while they are a few.
fn add(names: &mut Vec<String>, text: &str) {
    if names.len() < MOST_RESOURCES {
        names.extend(name(text).filter(|name| !names.contains(name)));
    }
}

fn decoded(full_name: &str, encoded: &[u8]) -> Option<DynamicMessage> {
    let descriptor = POOL.get_message_by_name(full_name)?;
    DynamicMessage::decode(descriptor, encoded).ok()
}

/// What a `google.protobuf.Any` holds.
fn unpacked(message: &DynamicMessage) -> Option<DynamicMessage> {
    if message.descriptor().full_name() != Any::full_name() {
        return None;
    }
    let any: Any = message.transcode_to().ok()?;
    decoded(any.type_url.rsplit('/').next()?, &any.value)
}

/// The text, if it is the name of a resource.
fn name(text: &str) -> Option<String> {
    let fits = |pattern: &Vec<String>| {
        let segments = text.split('/');
        segments.clone().count() == pattern.len()
            && segments
                .zip(pattern)
                .all(|(segment, wanted)| match wanted.starts_with('{') {
                    true => is_id(segment),
                    false => segment == wanted,
                })
    };
    let is_name = text.len() <= LONGEST_NAME && PATTERNS.iter().any(fits);
    is_name.then(|| text.to_owned())
}

fn is_id(segment: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~%".contains(&b);
    !segment.is_empty() && segment.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use anklang_proto::anklang as pb;
    use anklang_proto::google::longrunning as lro;
    use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

    use super::super::change::mutations;
    use super::super::operations::any;
    use super::*;
    use crate::auth::{Needs, needs};

    /// Calls that change something, and record that themselves.
    const RECORD_THEMSELVES: [&str; 7] = [
        "/anklang.handover.v1.DeliveryService/ReplayDeadDeliveries",
        "/anklang.imports.v1.ImportService/Import",
        "/anklang.imports.v1.ImportService/ImportRows",
        "/anklang.messages.v1.MessageService/LookupMessages",
        "/anklang.privacy.v1.PrivacyService/DownloadPersonalData",
        "/google.longrunning.Operations/CancelOperation",
        "/google.longrunning.Operations/DeleteOperation",
    ];

    /// Calls that change nothing, and still are not for everybody who may see.
    const ONLY_LOOK: [&str; 1] = ["/anklang.winback.v1.WinbackTemplateService/ListVouchers"];

    #[test]
    fn every_call_that_changes_something_is_recorded() {
        let (known, mut others) = (mutations(), Vec::new());
        for service in POOL.services() {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let reads = match needs(&path) {
                    Needs::Permission(permission) => permission.is_read(),
                    other => panic!("{path} needs {other:?}"),
                };
                let finishes = known.iter().any(|name| name == method.input().full_name());
                assert!(!(reads && finishes), "{path} reads and changes");
                if !reads && !finishes {
                    others.push(path);
                }
            }
        }
        others.sort();
        let mut listed = [&RECORD_THEMSELVES[..], &ONLY_LOOK].concat();
        listed.sort_unstable();
        assert_eq!(others, listed);
        assert!(known.len() > 80, "{}", known.len());
    }

    fn names<M: Message + Name>(message: &M) -> Names {
        Names::of(&M::full_name(), &message.encode_to_vec())
    }

    #[test]
    fn names_are_found_by_how_they_look() {
        for right in [
            "customers/4711",
            "brands/gr%C3%BCn/templates/offer.de",
            "campaigns/01930000-0000-7000-8000-000000000001/phases/2",
            "operations/01930000-0000-7000-8000-000000000001",
            "users/anna",
            "contactBudget",
            "products/LS~K/versions/2025",
        ] {
            assert_eq!(name(right).as_deref(), Some(right));
        }
        let long = format!("customers/{}", "1".repeat(LONGEST_NAME));
        for wrong in [
            "",
            "customers",
            "customers/",
            "customers/4711/",
            "customers/Erika Mustermann",
            "erika@example.de",
            "Kundin/4711",
            "https://example.de/customers/4711",
            "customers/4711/contracts/1",
            &long,
        ] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_of_a_message_are_its_own_and_those_of_what_it_holds() {
        let request = pb::contracts::v1::UpdateContractRequest {
            contract: Some(pb::contracts::v1::Contract {
                name: "contracts/K1".into(),
                customer: "customers/4711".into(),
                site_city: "brands".into(),
                ..Default::default()
            }),
            request_id: "01930000-0000-7000-8000-000000000001".into(),
            ..Default::default()
        };
        let found = names(&request);
        assert_eq!(found.single, ["contracts/K1", "customers/4711"]);
        assert_eq!(found.listed, [""; 0]);

        let many: Vec<String> = (0..40).map(|i| format!("messages/{i}")).collect();
        let request = pb::messages::v1::BatchResolveMessagesRequest {
            names: many.clone(),
            ..Default::default()
        };
        assert_eq!(names(&request).listed, many[..MOST_RESOURCES]);

        let operation = lro::Operation {
            name: "operations/1".into(),
            metadata: Some(any(&pb::operations::v1::OperationMetadata {
                resource: "campaigns/1/phases/1".into(),
                ..Default::default()
            })),
            ..Default::default()
        };
        let found = names(&operation);
        assert_eq!(found.single, ["operations/1", "campaigns/1/phases/1"]);
        assert_eq!(names(&()), Names::default());
    }

    #[test]
    fn names_are_found_however_deep_a_response_holds_them() {
        let claimed = pb::planning::v1::ClaimNextContactResponse {
            contact_claim: Some(pb::planning::v1::ContactClaim {
                planned_contact: Some(pb::planning::v1::PlannedContact {
                    name: "plannedContacts/1".into(),
                    customer: "customers/4711".into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        };
        let found = names(&claimed).single;
        assert_eq!(found, ["plannedContacts/1", "customers/4711"]);

        let (known, mut tried) = (mutations(), 0);
        let services = POOL.services();
        for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
            if !known.iter().any(|name| name == method.input().full_name()) {
                continue;
            }
            for path in texts(&method.output(), &mut Vec::new()) {
                let response = holding(&method.output(), &path, "customers/4711");
                let found = Names::of(method.output().full_name(), &response.encode_to_vec());
                let told: Vec<&str> = path.iter().map(FieldDescriptor::name).collect();
                let at = format!("{}: {}", method.output().full_name(), told.join("."));
                assert_eq!(found.single, ["customers/4711"], "{at}");
                tried += usize::from(path.len() > 2);
            }
        }
        assert!(tried > 10, "{tried}");
    }

    /// The ways to all single texts of ours in a message of that type; `above` are the types that it is in.
    fn texts(of: &MessageDescriptor, above: &mut Vec<String>) -> Vec<Vec<FieldDescriptor>> {
        let is_theirs = of.package_name() == "google.protobuf";
        if is_theirs || above.iter().any(|name| name == of.full_name()) {
            return Vec::new();
        }
        above.push(of.full_name().to_owned());
        let mut ways = Vec::new();
        for field in of
            .fields()
            .filter(|field| !field.is_list() && !field.is_map())
        {
            match field.kind() {
                Kind::String => ways.push(vec![field]),
                Kind::Message(inner) => ways.extend(
                    texts(&inner, above)
                        .into_iter()
                        .map(|way| [vec![field.clone()], way].concat()),
                ),
                _ => {}
            }
        }
        above.pop();
        ways
    }

    /// A message that holds that text at the end of the way, and nothing else.
    fn holding(of: &MessageDescriptor, way: &[FieldDescriptor], text: &str) -> DynamicMessage {
        let mut message = DynamicMessage::new(of.clone());
        let [field, further @ ..] = way else {
            return message;
        };
        let value = match field.kind() {
            Kind::Message(inner) => Value::Message(holding(&inner, further, text)),
            _ => Value::String(text.to_owned()),
        };
        message.set_field(field, value);
        message
    }

    #[tokio::test]
    async fn a_call_names_few_and_none_twice() {
        let request = pb::messages::v1::LookupMessagesRequest {
            names: (0..40).map(|i| format!("messages/{i}")).collect(),
        };
        let asked = Asked::of(&request);
        assert!(asked.deed().is_err(), "nobody calls");
        let call = Call {
            caller: "tokens/crm".into(),
            deadline: None,
            fresh: false,
            method: "/x/Y".into(),
        };
        let response = pb::messages::v1::Message {
            name: "messages/3".into(),
            customer: "customers/4711".into(),
            ..Default::default()
        };
        let deed = call.scope(async { asked.answered(&response) }).await;
        let deed = deed.expect("somebody calls");
        assert_eq!(deed.resources.len(), MOST_RESOURCES);
        assert_eq!(
            deed.resources[..3],
            ["messages/3", "customers/4711", "messages/0"]
        );
        let again = deed.resources.iter().filter(|name| *name == "messages/3");
        assert_eq!(again.count(), 1);
        assert_eq!(&*deed.call.caller, "tokens/crm");
        let hash: [u8; 32] = Sha256::digest(request.encode_to_vec()).into();
        assert_eq!(deed.request_hash, hash);
    }
}

//! What a method asks of its callers, by its path: the permission that its proto declares.

use std::collections::HashMap;
use std::sync::LazyLock;

use anklang_domain::access::Permission;
use prost_reflect::{ExtensionDescriptor, MethodDescriptor};

use crate::grpc::mask::POOL;

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A permission.
    Permission(Permission),
    /// All permissions: nobody has said which.
    Everything,
    /// A token, whatever it allows: it asks how the server is.
    Health,
    /// A token, whatever it allows: it asks what the server can do.
    Reflection,
}

/// Our permission as an option of methods.
static OPTION: LazyLock<Option<ExtensionDescriptor>> =
    LazyLock::new(|| POOL.get_extension_by_name("anklang.common.v1.permission"));

/// The permissions of all methods, by path.
static METHODS: LazyLock<HashMap<String, Permission>> = LazyLock::new(|| {
    let mut methods = HashMap::new();
    for service in POOL.services() {
        for method in service.methods() {
            if let Some(permission) = declared(&method) {
                let path = format!("/{}/{}", service.full_name(), method.name());
                methods.insert(path, permission);
            }
        }
    }
    methods
});

fn declared(method: &MethodDescriptor) -> Option<Permission> {
    // These protos are Google's.
    if method.parent_service().full_name() == "google.longrunning.Operations" {
        return Some(match method.name() {
            "GetOperation" | "ListOperations" | "WaitOperation" => Permission::OperationsRead,
            _ => Permission::OperationsWrite,
        });
    }
    let options = method.options();
    let value = options.get_extension(OPTION.as_ref()?);
    Permission::parse(value.as_str()?)
}

/// What a call of the path needs.
pub fn needs(path: &str) -> Needs {
    if let Some(permission) = METHODS.get(path) {
        return Needs::Permission(*permission);
    }
    if path.starts_with("/grpc.health.v1.Health/") {
        Needs::Health
    } else if path.starts_with("/grpc.reflection.v1.ServerReflection/") {
        Needs::Reflection
    } else {
        Needs::Everything
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_need_what_their_protos_declare() {
        let permission = |path| match needs(path) {
            Needs::Permission(permission) => permission.as_str(),
            _ => "",
        };
        for (path, expected) in [
            (
                "/anklang.campaigns.v1.CampaignService/LaunchCampaign",
                "campaigns.launch",
            ),
            (
                "/anklang.campaigns.v1.CampaignService/ListCampaigns",
                "campaigns.read",
            ),
            (
                "/anklang.planning.v1.WorkListService/ClaimNextContact",
                "contacts.work",
            ),
            (
                "/google.longrunning.Operations/WaitOperation",
                "operations.read",
            ),
            (
                "/google.longrunning.Operations/DeleteOperation",
                "operations.write",
            ),
        ] {
            assert_eq!(permission(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_known_needs_everything() {
        assert_eq!(needs("/grpc.health.v1.Health/Watch"), Needs::Health);
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(needs(reflection), Needs::Reflection);
        for path in [
            "/",
            "",
            "/anklang.campaigns.v1.CampaignService/Guess",
            "/anklang.campaigns.v1.CampaignService/ListCampaigns/",
            "//anklang.campaigns.v1.CampaignService/ListCampaigns",
            "/grpc.health.v1.HealthX/Check",
        ] {
            assert_eq!(needs(path), Needs::Everything, "{path}");
        }
    }
}

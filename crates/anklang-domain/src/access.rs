//! What callers may do: permissions, the roles that are sets of them, and what several roles give together; and
//! the org units that some of them are bound to.

use std::collections::BTreeSet;

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $word:literal),+ $(,)?) => {
        /// What one must be allowed to do to make a call. Each call declares its own, by the option
        /// `anklang.common.v1.permission`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Permission {
            $($(#[$doc])* $name),+
        }

        impl Permission {
            /// All of them.
            pub const ALL: &'static [Permission] = &[$(Permission::$name),+];

            /// The word of the protos.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Permission::$name => $word),+
                }
            }
        }
    };
}

permissions! {
    /// To see brands, products, customers and what is blocked for them, contracts, orders, org units.
    MasterRead = "master.read",
    /// To change and import them.
    MasterWrite = "master.write",
    /// To see and try selections and presets.
    SelectionsRead = "selections.read",
    /// To change selections.
    SelectionsWrite = "selections.write",
    /// To change presets, which everybody begins with.
    PresetsWrite = "presets.write",
    /// To see and try templates of letters and mails, those of winback, and vouchers.
    TemplatesRead = "templates.read",
    /// To change them, and to make vouchers.
    TemplatesWrite = "templates.write",
    /// To see campaigns, their figures, statements and documents, and to try launches.
    CampaignsRead = "campaigns.read",
    /// To have print files made; to set the contact budget and how offers are numbered.
    CampaignsWrite = "campaigns.write",
    /// To start and stop contact with many customers.
    CampaignsLaunch = "campaigns.launch",
    /// To approve or refuse what somebody else has launched.
    CampaignsApprove = "campaigns.approve",
    /// To say which launches need an approval.
    ApprovalsManage = "approvals.manage",
    /// To see offers and their documents.
    OffersRead = "offers.read",
    /// To make, answer and withdraw them.
    OffersWrite = "offers.write",
    /// To see messages, and what people write back.
    MessagesRead = "messages.read",
    /// To settle those that are ambiguous.
    MessagesWrite = "messages.write",
    /// To see channel accounts, plugins and routes.
    ChannelsRead = "channels.read",
    /// To change and test them.
    ChannelsWrite = "channels.write",
    /// To see webhooks and deliveries.
    WebhooksRead = "webhooks.read",
    /// To change webhooks, and to have events delivered again.
    WebhooksWrite = "webhooks.write",
    /// To see contact plans and calendars.
    PlanningRead = "planning.read",
    /// To change them and the tenant's outcomes, and to have contacts generated.
    PlanningWrite = "planning.write",
    /// To see planned contacts, the work list and its figures.
    ContactsRead = "contacts.read",
    /// To work through planned contacts.
    ContactsWork = "contacts.work",
    /// To see winback's cases, settings and figures.
    WinbackRead = "winback.read",
    /// To work on single cases.
    WinbackWork = "winback.work",
    /// To change the settings, detect, and mail many at once.
    WinbackManage = "winback.manage",
    /// To see who asked for exports and erasures of a person's data, and what was done.
    PrivacyRead = "privacy.read",
    /// To export and erase a person's data.
    PrivacyManage = "privacy.manage",
    /// To see how operations go.
    OperationsRead = "operations.read",
    /// To cancel and delete them.
    OperationsWrite = "operations.write",
    /// To see who did what.
    AuditRead = "audit.read",
}

impl Permission {
    /// Reads the word of the protos.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|p| p.as_str() == word)
    }

    /// Whether it lets one see things, and change nothing.
    pub fn is_read(self) -> bool {
        self.as_str().ends_with(".read")
    }
}

/// What somebody is, for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Runs the tenant's outreach: may do everything.
    Central,
    /// Works through contacts, cases and offers, under the own name.
    Clerk,
    /// Sees everything, also who did what, and changes nothing.
    Auditor,
    /// Another system of the tenant's: everything but where messages and events go, being the second person of a
    /// launch, data of persons, and who did what.
    Service,
    /// As a clerk, for the customers of the org units that it is bound to, and of all below them.
    Region,
    /// As a region, without campaigns.
    Agency,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 6] = [
        Role::Central,
        Role::Clerk,
        Role::Auditor,
        Role::Service,
        Role::Region,
        Role::Agency,
    ];

    /// The word of tokens and settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Central => "central",
            Role::Clerk => "clerk",
            Role::Auditor => "auditor",
            Role::Service => "service",
            Role::Region => "region",
            Role::Agency => "agency",
        }
    }

    /// Reads the word of tokens and settings, or says why it is none.
    pub fn parse(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == word);
        known.ok_or_else(|| format!("must be one of {}", Self::ALL.map(Role::as_str).join(", ")))
    }

    /// Whether one with this role may do that.
    pub fn allows(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Role::Central => true,
            Role::Auditor => permission.is_read(),
            Role::Service => !matches!(
                permission,
                P::ChannelsWrite
                    | P::WebhooksWrite
                    | P::CampaignsApprove
                    | P::ApprovalsManage
                    | P::PrivacyRead
                    | P::PrivacyManage
                    | P::AuditRead
            ),
            Role::Agency => permission != P::CampaignsRead && Role::Clerk.allows(permission),
            Role::Clerk | Role::Region => match permission {
                P::ChannelsRead | P::WebhooksRead | P::PrivacyRead | P::AuditRead => false,
                P::OffersWrite | P::ContactsWork | P::WinbackWork | P::SelectionsWrite => true,
                other => other.is_read(),
            },
        }
    }

    /// Whether one with this role may work in anybody's name; else only in the own one.
    pub fn names_any_worker(self) -> bool {
        matches!(self, Role::Central | Role::Service)
    }

    /// Whether one with this role alone is bound to org units.
    pub fn is_bound(self) -> bool {
        matches!(self, Role::Region | Role::Agency)
    }
}

/// The org units whose customers somebody sees and works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Units {
    /// All, and customers of none.
    All,
    /// Those with these codes, and all below them.
    Only(BTreeSet<String>),
}

impl Units {
    /// Of one with these roles who names these units. Bound is only whose roles are all bound: another role
    /// gives the whole tenant. Who has no role sees nothing.
    pub fn of(roles: &[Role], codes: BTreeSet<String>) -> Self {
        match roles.iter().all(|role| role.is_bound()) {
            true => Units::Only(codes),
            false => Units::All,
        }
    }

    /// Whether a text can be the code of an org unit.
    pub fn is_code(text: &str) -> bool {
        (1..=LONGEST_CODE).contains(&text.chars().count()) && !text.chars().any(char::is_control)
    }
}

/// The longest code of an org unit, in characters.
const LONGEST_CODE: usize = 64;

/// What somebody may do: the permissions of all of their roles. Without roles it is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights(BTreeSet<Permission>);

impl Rights {
    /// What these roles allow, one or another.
    pub fn of(roles: &[Role]) -> Self {
        let allowed = |p: &Permission| roles.iter().any(|role| role.allows(*p));
        Self(Permission::ALL.iter().copied().filter(allowed).collect())
    }

    /// Everything: of callers when nobody is authenticated.
    pub fn all() -> Self {
        Self(Permission::ALL.iter().copied().collect())
    }

    /// Whether that is among them.
    pub fn allows(&self, permission: Permission) -> bool {
        self.0.contains(&permission)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests {
    use super::*;

    const ANYONE: [Role; 6] = Role::ALL;
    const NO_AGENCY: [Role; 5] = [
        Role::Central,
        Role::Clerk,
        Role::Auditor,
        Role::Service,
        Role::Region,
    ];
    const NO_CLERK: [Role; 3] = [Role::Central, Role::Auditor, Role::Service];
    const WORKERS: [Role; 5] = [
        Role::Central,
        Role::Clerk,
        Role::Service,
        Role::Region,
        Role::Agency,
    ];
    const MANAGERS: [Role; 2] = [Role::Central, Role::Service];

    /// Who may do what, in full.
    const TABLE: [(&str, &[Role]); 32] = [
        ("master.read", &ANYONE),
        ("master.write", &MANAGERS),
        ("selections.read", &ANYONE),
        ("selections.write", &WORKERS),
        ("presets.write", &MANAGERS),
        ("templates.read", &ANYONE),
        ("templates.write", &MANAGERS),
        ("campaigns.read", &NO_AGENCY),
        ("campaigns.write", &MANAGERS),
        ("campaigns.launch", &MANAGERS),
        ("campaigns.approve", &[Role::Central]),
        ("approvals.manage", &[Role::Central]),
        ("offers.read", &ANYONE),
        ("offers.write", &WORKERS),
        ("messages.read", &ANYONE),
        ("messages.write", &MANAGERS),
        ("channels.read", &NO_CLERK),
        ("channels.write", &[Role::Central]),
        ("webhooks.read", &NO_CLERK),
        ("webhooks.write", &[Role::Central]),
        ("planning.read", &ANYONE),
        ("planning.write", &MANAGERS),
        ("contacts.read", &ANYONE),
        ("contacts.work", &WORKERS),
        ("winback.read", &ANYONE),
        ("winback.work", &WORKERS),
        ("winback.manage", &MANAGERS),
        ("privacy.read", &[Role::Central, Role::Auditor]),
        ("privacy.manage", &[Role::Central]),
        ("operations.read", &ANYONE),
        ("operations.write", &MANAGERS),
        ("audit.read", &[Role::Central, Role::Auditor]),
    ];

    #[test]
    fn roles_allow_what_the_table_says() {
        let told: Vec<&str> = TABLE.iter().map(|(word, _)| *word).collect();
        let all: Vec<&str> = Permission::ALL.iter().map(|p| p.as_str()).collect();
        assert_eq!(told, all);
        for (word, who) in TABLE {
            let permission = Permission::parse(word).unwrap();
            for role in Role::ALL {
                let may = who.contains(&role);
                assert_eq!(role.allows(permission), may, "{role:?} {word}");
                assert_eq!(
                    Rights::of(&[role]).allows(permission),
                    may,
                    "{role:?} {word}"
                );
            }
        }
    }

    #[test]
    fn permissions_are_known_by_their_words() {
        for permission in Permission::ALL {
            assert_eq!(Permission::parse(permission.as_str()), Some(*permission));
        }
        for wrong in [
            "",
            "master",
            "master.",
            "Master.read",
            "master.read ",
            "master.delete",
        ] {
            assert_eq!(Permission::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn roles_are_known_by_their_words() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Ok(role));
        }
        for word in ["", "Central", "clerk ", "admin"] {
            let reason = Role::parse(word).unwrap_err();
            let all = "must be one of central, clerk, auditor, service, region, agency";
            assert_eq!(reason, all);
        }
    }

    #[test]
    fn bound_is_only_whose_roles_are_all_bound() {
        let north = || BTreeSet::from(["north".to_owned()]);
        let nobody: &[Role] = &[];
        for roles in [
            nobody,
            &[Role::Region],
            &[Role::Agency],
            &[Role::Region, Role::Agency],
        ] {
            assert_eq!(Units::of(roles, north()), Units::Only(north()), "{roles:?}");
        }
        for other in NO_CLERK.into_iter().chain([Role::Clerk]) {
            for roles in [&[other][..], &[Role::Agency, other]] {
                assert_eq!(Units::of(roles, north()), Units::All, "{roles:?}");
            }
        }
        let nothing = Units::of(&[Role::Agency], BTreeSet::new());
        assert_eq!(nothing, Units::Only(BTreeSet::new()), "and not everything");
    }

    #[test]
    fn codes_of_units_are_short_texts_of_one_line() {
        for good in ["a", "Nord/West 1", "ä'\"\\", &"x".repeat(64)] {
            assert!(Units::is_code(good), "{good}");
        }
        for bad in ["", "a\0", "a\nb", &"x".repeat(65)] {
            assert!(!Units::is_code(bad), "{bad:?}");
        }
    }

    #[test]
    fn rights_are_what_any_of_the_roles_allows() {
        let of = |roles: &[Role]| Rights::of(roles);
        assert_eq!(of(&[]), Rights::default());
        assert!(Permission::ALL.iter().all(|p| !of(&[]).allows(*p)));
        assert_eq!(of(&[Role::Central]), Rights::all());
        // Those who work and see everything still change nothing else.
        let both = of(&[Role::Clerk, Role::Auditor]);
        for permission in Permission::ALL {
            let one = Role::Clerk.allows(*permission) || Role::Auditor.allows(*permission);
            assert_eq!(both.allows(*permission), one, "{permission:?}");
        }
        assert!(both.allows(Permission::ChannelsRead) && both.allows(Permission::ContactsWork));
        assert!(!both.allows(Permission::CampaignsLaunch));
    }

    #[test]
    fn only_central_and_services_work_in_other_names() {
        let any = Role::ALL.into_iter().filter(|role| role.names_any_worker());
        assert_eq!(any.collect::<Vec<_>>(), MANAGERS);
    }
}

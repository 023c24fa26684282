//! The entities of an import and their columns.

/// What the rows of an import are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    /// Brands.
    Brands,
    /// Products.
    Products,
    /// Product versions.
    ProductVersions,
    /// Customers.
    Customers,
    /// Contact points of customers.
    ContactPoints,
    /// Consents of customers.
    Consents,
    /// Blocked addresses.
    Suppressions,
    /// Contracts.
    Contracts,
    /// Items of contracts.
    ContractItems,
    /// Orders.
    Orders,
    /// Lines of orders.
    OrderLines,
    /// Attributes of customers and contracts.
    Attributes,
    /// Customers in contact plans.
    PlanEntries,
    /// Inactive periods of customers.
    InactivePeriods,
    /// Voucher codes of pools.
    Vouchers,
}

impl Entity {
    /// All, each after those it refers to.
    pub const ALL: [Entity; 15] = [
        Entity::Brands,
        Entity::Products,
        Entity::ProductVersions,
        Entity::Customers,
        Entity::ContactPoints,
        Entity::Consents,
        Entity::Suppressions,
        Entity::Contracts,
        Entity::ContractItems,
        Entity::Orders,
        Entity::OrderLines,
        Entity::Attributes,
        Entity::PlanEntries,
        Entity::InactivePeriods,
        Entity::Vouchers,
    ];

    /// Its name, e.g. `contact_points`: of the file and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Entity::Brands => "brands",
            Entity::Products => "products",
            Entity::ProductVersions => "product_versions",
            Entity::Customers => "customers",
            Entity::ContactPoints => "contact_points",
            Entity::Consents => "consents",
            Entity::Suppressions => "suppressions",
            Entity::Contracts => "contracts",
            Entity::ContractItems => "contract_items",
            Entity::Orders => "orders",
            Entity::OrderLines => "order_lines",
            Entity::Attributes => "attributes",
            Entity::PlanEntries => "plan_entries",
            Entity::InactivePeriods => "inactive_periods",
            Entity::Vouchers => "vouchers",
        }
    }

    /// The entity of that name.
    pub fn by_name(name: &str) -> Option<Entity> {
        Self::ALL.into_iter().find(|e| e.name() == name)
    }

    /// Columns that a file must have.
    pub fn required_columns(self) -> &'static [&'static str] {
        self.columns().0
    }

    /// Columns that a file may have.
    pub fn optional_columns(self) -> &'static [&'static str] {
        self.columns().1
    }

    fn columns(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Entity::Brands => (
                &["code", "name", "sender_email"],
                &[
                    "legal_name",
                    "street",
                    "house_number",
                    "postal_code",
                    "city",
                    "country",
                    "phone",
                    "email",
                    "website",
                    "register_line",
                    "vat_id",
                    "bank_line",
                    "sender_name",
                    "reply_to",
                ],
            ),
            Entity::Products => (&["number", "name", "division", "brand_code"], &[]),
            Entity::ProductVersions => (
                &[
                    "product_number",
                    "code",
                    "name",
                    "valid_from",
                    "base_price_per_year",
                    "unit_price_per_kwh",
                    "currency",
                ],
                &["valid_to"],
            ),
            Entity::Customers => (
                &["number", "kind"],
                &[
                    "salutation",
                    "title",
                    "first_name",
                    "last_name",
                    "company_name",
                    "customer_group",
                    "language",
                    "time_zone",
                    "birth_date",
                    "street",
                    "house_number",
                    "postal_code",
                    "city",
                    "country",
                    "org_unit_code",
                ],
            ),
            Entity::ContactPoints => (
                &["customer_number", "channel", "address"],
                &["position", "country"],
            ),
            Entity::Consents => (
                &[
                    "customer_number",
                    "channel",
                    "purpose",
                    "state",
                    "recorded_at",
                ],
                &["source", "evidence"],
            ),
            Entity::Suppressions => (&["channel", "address"], &["reason"]),
            Entity::Contracts => (
                &["number", "customer_number", "brand_code", "division"],
                &[
                    "supply_status",
                    "site_street",
                    "site_house_number",
                    "site_postal_code",
                    "site_city",
                    "annual_quantity_kwh",
                    "product_number",
                    "product_version_code",
                    "start_date",
                    "end_date",
                    "notice_date",
                ],
            ),
            Entity::ContractItems => (&["contract_number", "code"], &["name", "quantity"]),
            Entity::Orders => (
                &["number", "customer_number", "ordered_at", "currency"],
                &["brand_code", "delivery_date"],
            ),
            Entity::OrderLines => (
                &["order_number", "line", "quantity", "unit_price"],
                &["product_number", "product_name", "product_group"],
            ),
            Entity::Attributes => (&["entity", "number", "key", "type", "value"], &[]),
            Entity::PlanEntries => (
                &["plan_code", "customer_number", "contact_time"],
                &[
                    "contact_person",
                    "phone",
                    "country",
                    "earliest_time",
                    "latest_time",
                    "priority",
                    "skills",
                    "valid_from",
                    "valid_to",
                ],
            ),
            Entity::InactivePeriods => (
                &[
                    "customer_number",
                    "id",
                    "day_type",
                    "first_date",
                    "last_date",
                ],
                &["weekdays", "reason"],
            ),
            Entity::Vouchers => (&["brand_code", "pool", "code"], &[]),
        }
    }
}

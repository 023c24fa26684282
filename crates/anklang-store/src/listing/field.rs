//! Fields of lists: what callers name, and the column of the derived table that it is.

/// A field that a list can be filtered by.
#[derive(Debug)]
pub struct Field {
    /// What callers name it by: as in the resource.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its column; empty for names of several parts.
    pub(super) column: &'static str,
    /// Whether it may be without a value.
    pub(super) nullable: bool,
}

/// What a field holds, and so which values it compares with.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Text.
    Text,
    /// A decimal or whole number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A date, e.g. 2026-01-31.
    Date,
    /// A point in time, e.g. 2026-01-31T12:00:00Z.
    Time,
    /// A value of an enum: the prefix of its names, and the words of the column. `OFFER_STATE_OPEN`
    /// and `OPEN` are both `open`.
    Word(&'static str, &'static [&'static str]),
    /// The name of a resource.
    Name(&'static [Part]),
}

/// A collection in the name of a resource, and the column of the id in it.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The collection, e.g. `customers`.
    pub collection: &'static str,
    pub(super) column: &'static str,
    pub(super) ty: PartType,
}

/// What an id in a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartType {
    /// The tenant's own number.
    Text,
    /// A UUID.
    Uuid,
    /// A whole number.
    Integer,
}

impl PartType {
    pub(super) fn cast(self) -> &'static str {
        match self {
            PartType::Text => "::text",
            PartType::Uuid => "::uuid",
            PartType::Integer => "::integer",
        }
    }
}

impl Part {
    /// A collection whose ids are in a column.
    pub const fn new(collection: &'static str, column: &'static str, ty: PartType) -> Self {
        Part {
            collection,
            column,
            ty,
        }
    }
}

impl Field {
    /// A field of a column that is never NULL.
    pub const fn new(name: &'static str, kind: Kind, column: &'static str) -> Self {
        Field {
            name,
            kind,
            column,
            nullable: false,
        }
    }

    /// A field of a column that may be NULL.
    pub const fn nullable(name: &'static str, kind: Kind, column: &'static str) -> Self {
        Field {
            name,
            kind,
            column,
            nullable: true,
        }
    }

    /// A field with the name of its column, which is never NULL.
    pub const fn column(name: &'static str, kind: Kind) -> Self {
        Field::new(name, kind, name)
    }

    /// A field that holds the name of a resource.
    pub const fn resource(name: &'static str, parts: &'static [Part]) -> Self {
        Field {
            name,
            kind: Kind::Name(parts),
            column: "",
            nullable: true,
        }
    }

    /// The column that orders by it, and the type that a key's text is cast to; `None` when there is no
    /// order by it. Names of one part are ordered by their id.
    pub(super) fn sorted(&self) -> Option<(&'static str, &'static str)> {
        let cast = match self.kind {
            Kind::Text | Kind::Word(..) => "::text",
            Kind::Number => "::numeric",
            Kind::Flag => "::boolean",
            Kind::Date => "::date",
            Kind::Time => "::timestamptz",
            Kind::Name([one]) => return Some((one.column, one.ty.cast())),
            Kind::Name(_) => return None,
        };
        Some((self.column, cast))
    }
}

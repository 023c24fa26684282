CREATE TABLE brand (
    tenant_id     uuid NOT NULL REFERENCES tenant,
    id            uuid NOT NULL,
    code          text NOT NULL,
    name          text NOT NULL,
    legal_name    text NOT NULL DEFAULT '',
    street        text NOT NULL DEFAULT '',
    house_number  text NOT NULL DEFAULT '',
    postal_code   text NOT NULL DEFAULT '',
    city          text NOT NULL DEFAULT '',
    country       text NOT NULL DEFAULT 'DE',
    phone         text NOT NULL DEFAULT '',
    email         text NOT NULL DEFAULT '',
    website       text NOT NULL DEFAULT '',
    register_line text NOT NULL DEFAULT '',
    vat_id        text NOT NULL DEFAULT '',
    bank_line     text NOT NULL DEFAULT '',
    sender_name   text NOT NULL DEFAULT '',
    sender_email  text NOT NULL,
    reply_to      text NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code)
);
SELECT anklang_secure('brand');

CREATE TABLE product (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    id         uuid NOT NULL,
    number     text NOT NULL,
    name       text NOT NULL,
    division   text NOT NULL,
    brand_id   uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, number),
    FOREIGN KEY (tenant_id, brand_id) REFERENCES brand
);
SELECT anklang_secure('product');

CREATE TABLE product_version (
    tenant_id           uuid NOT NULL REFERENCES tenant,
    id                  uuid NOT NULL,
    product_id          uuid NOT NULL,
    code                text NOT NULL,
    name                text NOT NULL,
    valid_from          date NOT NULL,
    valid_to            date CHECK (valid_to >= valid_from),
    base_price_per_year numeric(14, 4) NOT NULL CHECK (base_price_per_year >= 0),
    unit_price_per_kwh  numeric(14, 6) NOT NULL CHECK (unit_price_per_kwh >= 0),
    currency            text NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, product_id, code),
    FOREIGN KEY (tenant_id, product_id) REFERENCES product
);
SELECT anklang_secure('product_version');

CREATE TABLE customer (
    tenant_id      uuid NOT NULL REFERENCES tenant,
    id             uuid NOT NULL,
    number         text NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('person', 'company')),
    salutation     text NOT NULL DEFAULT '' CHECK (salutation IN ('', 'female', 'male', 'diverse')),
    title          text NOT NULL DEFAULT '',
    first_name     text NOT NULL DEFAULT '',
    last_name      text NOT NULL DEFAULT '',
    company_name   text NOT NULL DEFAULT '',
    customer_group text NOT NULL DEFAULT '',
    language       text NOT NULL DEFAULT 'de',
    time_zone      text NOT NULL DEFAULT '',
    birth_date     date,
    street         text NOT NULL DEFAULT '',
    house_number   text NOT NULL DEFAULT '',
    postal_code    text NOT NULL DEFAULT '',
    city           text NOT NULL DEFAULT '',
    country        text NOT NULL DEFAULT 'DE',
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, number)
);
CREATE INDEX customer_postal_code ON customer (tenant_id, postal_code text_pattern_ops);
SELECT anklang_secure('customer');

-- address is normalised; address_hash = SHA-256 of tenant, channel and address, as in suppression.
CREATE TABLE contact_point (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    id           uuid NOT NULL,
    customer_id  uuid NOT NULL,
    channel      text NOT NULL,
    address      text NOT NULL,
    address_hash bytea NOT NULL,
    position     integer NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, customer_id, channel, address),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE
);
CREATE INDEX contact_point_address ON contact_point (tenant_id, channel, address_hash);
SELECT anklang_secure('contact_point');

CREATE TABLE consent (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    customer_id uuid NOT NULL,
    channel     text NOT NULL,
    purpose     text NOT NULL,
    state       text NOT NULL CHECK (state IN ('granted', 'withdrawn')),
    source      text NOT NULL DEFAULT '',
    evidence    text NOT NULL DEFAULT '',
    recorded_at timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, customer_id, channel, purpose),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE
);
SELECT anklang_secure('consent');

CREATE TABLE suppression (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    channel      text NOT NULL,
    address_hash bytea NOT NULL,
    reason       text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, channel, address_hash)
);
SELECT anklang_secure('suppression');

CREATE TABLE contract (
    tenant_id           uuid NOT NULL REFERENCES tenant,
    id                  uuid NOT NULL,
    number              text NOT NULL,
    customer_id         uuid NOT NULL,
    brand_id            uuid NOT NULL,
    division            text NOT NULL,
    supply_status       text NOT NULL DEFAULT '',
    site_street         text NOT NULL DEFAULT '',
    site_house_number   text NOT NULL DEFAULT '',
    site_postal_code    text NOT NULL DEFAULT '',
    site_city           text NOT NULL DEFAULT '',
    annual_quantity_kwh numeric(12, 3) CHECK (annual_quantity_kwh >= 0),
    product_version_id  uuid,
    start_date          date,
    end_date            date,
    notice_date         date,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, number),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, brand_id) REFERENCES brand,
    FOREIGN KEY (tenant_id, product_version_id) REFERENCES product_version
);
CREATE INDEX contract_customer ON contract (tenant_id, customer_id);
CREATE INDEX contract_product_version ON contract (tenant_id, product_version_id);
CREATE INDEX contract_site_postal_code ON contract (tenant_id, site_postal_code text_pattern_ops);
SELECT anklang_secure('contract');

CREATE TABLE contract_item (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    contract_id uuid NOT NULL,
    code        text NOT NULL,
    name        text NOT NULL DEFAULT '',
    quantity    numeric(14, 3),
    PRIMARY KEY (tenant_id, contract_id, code),
    FOREIGN KEY (tenant_id, contract_id) REFERENCES contract ON DELETE CASCADE
);
CREATE INDEX contract_item_code ON contract_item (tenant_id, code);
SELECT anklang_secure('contract_item');

-- "order" is a word of SQL.
CREATE TABLE sales_order (
    tenant_id   uuid NOT NULL REFERENCES tenant,
    id          uuid NOT NULL,
    number      text NOT NULL,
    customer_id uuid NOT NULL,
    brand_id    uuid,
    ordered_at  timestamptz NOT NULL,
    currency    text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, number),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, brand_id) REFERENCES brand
);
CREATE INDEX sales_order_customer ON sales_order (tenant_id, customer_id, ordered_at);
SELECT anklang_secure('sales_order');

CREATE TABLE order_line (
    tenant_id      uuid NOT NULL REFERENCES tenant,
    order_id       uuid NOT NULL,
    line           integer NOT NULL CHECK (line > 0),
    product_number text NOT NULL DEFAULT '',
    product_name   text NOT NULL DEFAULT '',
    product_group  text NOT NULL DEFAULT '',
    quantity       numeric(14, 3) NOT NULL,
    unit_price     numeric(14, 4) NOT NULL,
    PRIMARY KEY (tenant_id, order_id, line),
    FOREIGN KEY (tenant_id, order_id) REFERENCES sales_order ON DELETE CASCADE
);
SELECT anklang_secure('order_line');

-- Imported attributes: what a key holds, and the values.
CREATE TABLE attribute_definition (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    entity     text NOT NULL CHECK (entity IN ('customer', 'contract')),
    key        text NOT NULL CHECK (key ~ '^[a-z][a-z0-9_]{0,63}$'),
    value_type text NOT NULL CHECK (value_type IN ('text', 'number', 'flag', 'date')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, entity, key)
);
SELECT anklang_secure('attribute_definition');

CREATE TABLE customer_attribute (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    customer_id  uuid NOT NULL,
    key          text NOT NULL,
    text_value   text,
    number_value numeric(20, 6),
    flag_value   boolean,
    date_value   date,
    PRIMARY KEY (tenant_id, customer_id, key),
    CHECK (num_nonnulls(text_value, number_value, flag_value, date_value) = 1),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer ON DELETE CASCADE
);
CREATE INDEX customer_attribute_key ON customer_attribute (tenant_id, key);
SELECT anklang_secure('customer_attribute');

CREATE TABLE contract_attribute (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    contract_id  uuid NOT NULL,
    key          text NOT NULL,
    text_value   text,
    number_value numeric(20, 6),
    flag_value   boolean,
    date_value   date,
    PRIMARY KEY (tenant_id, contract_id, key),
    CHECK (num_nonnulls(text_value, number_value, flag_value, date_value) = 1),
    FOREIGN KEY (tenant_id, contract_id) REFERENCES contract ON DELETE CASCADE
);
CREATE INDEX contract_attribute_key ON contract_attribute (tenant_id, key);
SELECT anklang_secure('contract_attribute');

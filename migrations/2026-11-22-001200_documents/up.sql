-- What a document conforms to, and where it is in the print files of its outbound.
ALTER TABLE document
    ADD COLUMN standard   text NOT NULL DEFAULT 'PDF 1.7' CHECK (standard IN ('PDF 1.7', 'PDF/A-2b')),
    ADD COLUMN print_file integer CHECK (print_file > 0),
    ADD COLUMN print_page integer CHECK (print_page > 0);

-- Failed tries to make the document of a single offer; the wait between them grows with it.
ALTER TABLE offer ADD COLUMN document_failures smallint NOT NULL DEFAULT 0;

-- The documents of an outbound as print files and an index, made once.
CREATE TABLE bundle (
    tenant_id    uuid NOT NULL,
    outbound_id  uuid NOT NULL,
    operation_id uuid NOT NULL,
    state        text NOT NULL DEFAULT 'making'
                 CHECK (state IN ('making', 'ready', 'cancelled', 'failed')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    PRIMARY KEY (tenant_id, outbound_id),
    FOREIGN KEY (tenant_id, outbound_id) REFERENCES outbound
);
SELECT anklang_secure('bundle');

-- The files of a bundle, which lie in the document store under their path: the index has number 0,
-- print files count from 1. Print files hold the members up to last_seq, after those of the one before.
CREATE TABLE bundle_file (
    tenant_id   uuid NOT NULL,
    outbound_id uuid NOT NULL,
    number      integer NOT NULL CHECK (number >= 0),
    path        text NOT NULL,
    sha256      bytea NOT NULL CHECK (length(sha256) = 32),
    size_bytes  bigint NOT NULL,
    letters     bigint NOT NULL,
    pages       bigint NOT NULL,
    standard    text NOT NULL,
    last_seq    bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, outbound_id, number),
    FOREIGN KEY (tenant_id, outbound_id) REFERENCES bundle ON DELETE CASCADE
);
SELECT anklang_secure('bundle_file');

-- Data of persons: requests for it, and its erasure.

-- Since when a customer's data is forgotten, and that of its contracts: their rows stay for what points to them.
ALTER TABLE customer ADD COLUMN erased_at timestamptz;
ALTER TABLE contract ADD COLUMN erased_at timestamptz;
-- The file of a document is gone; its hash stays.
ALTER TABLE document ADD COLUMN erased_at timestamptz;
-- The erasure for which a print file is made anew without a letter.
ALTER TABLE bundle_file ADD COLUMN remake_for uuid;
-- The answer was erased: it is not given again, and the call is not done again.
ALTER TABLE request_log ADD COLUMN erased boolean NOT NULL DEFAULT false;

-- The history is append-only but for what an erasure takes out of its lines.
GRANT UPDATE (details) ON customer_event TO anklang_app, anklang_worker;

-- Who asked for an export or an erasure, and what it came to; stays as proof, and says nothing of the person but
-- the number. id is that of its first operation as well. counts: rows or files of each table. path: the file of an
-- export, until expires_at. again_at: when an erasure is done next for what came late, e.g. a bounce; rounds: how
-- often that was asked for.
CREATE TABLE privacy_request (
    tenant_id    uuid NOT NULL REFERENCES tenant,
    id           uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('export', 'erasure')),
    customer_id  uuid NOT NULL,
    reason       text NOT NULL DEFAULT ''
                 CHECK (reason IN ('', 'not_needed', 'consent_withdrawn', 'objection', 'unlawful', 'legal_duty')),
    requested_by text NOT NULL,
    state        text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'cancelled', 'failed')),
    counts       jsonb NOT NULL DEFAULT '{}',
    path         text,
    sha256       bytea CHECK (length(sha256) = 32),
    size_bytes   bigint,
    expires_at   timestamptz,
    again_at     timestamptz,
    rounds       integer NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    done_at      timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customer
);
CREATE INDEX privacy_request_customer ON privacy_request (tenant_id, customer_id);
CREATE INDEX privacy_request_again ON privacy_request (tenant_id, again_at) WHERE again_at IS NOT NULL;
CREATE INDEX privacy_request_expires ON privacy_request (tenant_id, expires_at) WHERE path IS NOT NULL;
SELECT anklang_secure('privacy_request');

-- Files that are to be deleted from the document store: documents by their hash, others by their path. Listed by the
-- transaction that forgets them, for its request; or before they are written: letters by their offer, until they are
-- recorded.
CREATE TABLE erased_file (
    tenant_id  uuid NOT NULL REFERENCES tenant,
    id         uuid NOT NULL DEFAULT anklang_uuid7(),
    request_id uuid,
    offer_id   uuid,
    sha256     bytea,
    path       text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CHECK (num_nonnulls(sha256, path) = 1),
    CHECK (num_nonnulls(request_id, offer_id) = 1)
);
CREATE INDEX erased_file_request ON erased_file (tenant_id, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX erased_file_offer ON erased_file (tenant_id, offer_id) WHERE offer_id IS NOT NULL;
CREATE INDEX erased_file_sha256 ON erased_file (tenant_id, sha256) WHERE offer_id IS NOT NULL;
SELECT anklang_secure('erased_file');

CREATE INDEX customer_erased ON customer (tenant_id, id) WHERE erased_at IS NOT NULL;
-- What was told of a customer; every event of one has its number.
CREATE INDEX handover_event_customer ON handover_event (tenant_id, (data ->> 'customer'));
-- Documents without anything of their own share a file.
CREATE INDEX document_sha256 ON document (tenant_id, sha256);
CREATE INDEX bundle_file_remake ON bundle_file (tenant_id, remake_for) WHERE remake_for IS NOT NULL;

"""A client in Python: a campaign from the import to the answers, against a running server.

    story.py ADDRESS TENANT

With ANKLANG_CA, a PEM file, by TLS; with ANKLANG_TOKEN, each call shows it. Generates the stubs from `proto/` and `third_party/googleapis` and tells the story of the README beside this
folder. Exits with 1 and says why when something is not as it should be. Needs grpcio-tools.
"""

import datetime
import hashlib
import os
import pathlib
import queue
import sys
import tempfile
import uuid

import grpc
import grpc_tools
from grpc import StatusCode
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROTOS = [ROOT / "proto", ROOT / "third_party/googleapis"]


def generate(folder):
    files = [str(file) for protos in PROTOS for file in sorted(protos.rglob("*.proto"))]
    # Those of google.protobuf come with grpcio-tools.
    includes = [f"-I{protos}" for protos in [*PROTOS, f"{grpc_tools.__path__[0]}/_proto"]]
    arguments = ["protoc", *includes, f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main([*arguments, *files]) != 0:
        sys.exit("protoc refuses the protos")
    sys.path.insert(0, folder)


# The folder lives as long as this.
generated = tempfile.TemporaryDirectory()
generate(generated.name)

from anklang.campaigns.v1 import campaigns_pb2 as campaigns, campaigns_pb2_grpc  # noqa: E402
from anklang.imports.v1 import imports_pb2 as imports, imports_pb2_grpc  # noqa: E402
from anklang.offers.v1 import offers_pb2 as offers, offers_pb2_grpc  # noqa: E402
from anklang.operations.v1 import operations_pb2 as progress  # noqa: E402
from anklang.operations.v1 import operations_pb2_grpc as progress_pb2_grpc  # noqa: E402
from anklang.selections.v1 import selections_pb2 as selections, selections_pb2_grpc  # noqa: E402
from google.longrunning import operations_pb2 as longrunning  # noqa: E402
from google.longrunning import operations_pb2_grpc as longrunning_pb2_grpc  # noqa: E402
from google.protobuf import duration_pb2  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # noqa: E402
from google.type import date_pb2  # noqa: E402

# Customers, each with a contract; the last ones have not agreed to get mails.
CUSTOMERS = 24
SILENT = 2
MEMBERS = CUSTOMERS - SILENT
PAGES = [10, 10, 2]
# Seconds that a call may take.
DEADLINE = 60


def say(text):
    print(f"python: {text}", flush=True)


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r} instead of {wanted!r}")


class Story:
    """One run. All its numbers begin with `run`, so that runs can share a tenant."""

    def __init__(self, channel, tenant, token):
        # Whoever has a token for one tenant alone need not name it.
        self.identity = [("authorization", f"Bearer {token}")] if token else []
        self.metadata = [*self.identity, ("anklang-tenant", tenant)]
        self.run = f"py-{uuid.uuid4().hex[:12]}"
        self.imports = imports_pb2_grpc.ImportServiceStub(channel)
        self.selections = selections_pb2_grpc.SelectionServiceStub(channel)
        self.campaigns = campaigns_pb2_grpc.CampaignServiceStub(channel)
        self.operations = longrunning_pb2_grpc.OperationsStub(channel)
        self.progress = progress_pb2_grpc.OperationProgressServiceStub(channel)
        self.offers = offers_pb2_grpc.OfferServiceStub(channel)

    def call(self, method, request):
        """A call of any kind for the tenant; `request` is a message, or an iterator of them."""
        return method(request, metadata=self.metadata, timeout=DEADLINE)

    def tell(self):
        self.import_catalogue()
        self.import_customers()
        selection = self.select()
        self.be_refused()
        campaign = self.launch(selection)
        made = self.list_offers(campaign)
        self.answer(*made[:2])
        self.download(made[0])
        self.count(campaign)
        say("the story is told")

    # 1. A brand, a product and two versions of it, as rows.

    def import_catalogue(self):
        run = self.run
        self.import_rows("BRANDS", ["code", "name", "sender_email"], [[run, "Story", "story@brand.example"]])
        columns = ["number", "name", "division", "brand_code"]
        self.import_rows("PRODUCTS", columns, [[run, "Story electricity", "electricity", run]])
        columns = ["product_number", "code", "name", "base_price_per_year", "unit_price_per_kwh"]
        old = [run, "old", "Story old", "139.80", "0.3415", "2024-01-01", "EUR"]
        new = [run, "new", "Story new", "119.40", "0.2995", "2024-01-01", "EUR"]
        self.import_rows("PRODUCT_VERSIONS", [*columns, "valid_from", "currency"], [old, new])

    def import_rows(self, entity, columns, rows):
        entity = imports.ImportEntity.Value(f"IMPORT_ENTITY_{entity}")
        parts = [
            imports.ImportRequest(header=imports.ImportHeader(entity=entity, columns=columns)),
            imports.ImportRequest(rows=imports.Rows(rows=[imports.Row(values=row) for row in rows])),
        ]
        *_, last = self.call(self.imports.Import, iter(parts))
        expect("done, created and failed rows", (last.done, last.created, last.failed), (True, len(rows), 0))

    # 2. Customers as CSV: the call breaks off in the middle of a line, and another one goes on.

    def import_customers(self):
        numbers = [f"{self.run}-{i:02}" for i in range(1, CUSTOMERS + 1)]
        lines = [f'{number},person,Käthe,"Müller, {number}"' for number in numbers]
        # Refused, and told with its line; the line of the columns is the first.
        lines.insert(5, f"{self.run}-bad,robot,Käthe,Müller")
        csv = "\n".join(["number,kind,first_name,last_name", *lines, ""]).encode()

        begun = self.begin_import(csv[: len(csv) // 2])
        rest = self.import_csv(csv[begun.checkpoint.offset :], begun.checkpoint)
        sums = (begun.rows + rest.rows, begun.created + rest.created, begun.failed + rest.failed)
        expect("all, created and failed rows, with a break", sums, (CUSTOMERS + 1, CUSTOMERS, 1))
        bad = begun.errors[0]
        expect("the bad row", (bad.line, bad.field), (7, "kind"))
        say(f"import: {begun.rows} rows, a break, {rest.rows} rows; line {bad.line}, {bad.field}: {bad.reason}")
        again = self.import_csv(csv)
        expect("the same file again", (again.created, again.updated, again.unchanged), (0, 0, CUSTOMERS))

        columns = ["customer_number", "channel", "address"]
        self.import_rows("CONTACT_POINTS", columns, [[n, "mail", f"{n}@customer.example"] for n in numbers])
        columns = ["customer_number", "channel", "purpose", "state", "recorded_at"]
        consent = ["mail", "marketing", "granted", "2025-06-01T12:00:00+02:00"]
        self.import_rows("CONSENTS", columns, [[n, *consent] for n in numbers[:MEMBERS]])
        columns = ["number", "customer_number", "brand_code", "division", "annual_quantity_kwh"]
        contracts = [[n, n, self.run, "electricity", "3200", self.run, "old"] for n in numbers]
        self.import_rows("CONTRACTS", [*columns, "product_number", "product_version_code"], contracts)

    def begin_import(self, csv):
        """Sends a beginning, and breaks the call off when what is whole of it is committed."""
        header = imports.ImportHeader(entity=imports.IMPORT_ENTITY_CUSTOMERS)
        parts = queue.SimpleQueue()
        parts.put(imports.ImportRequest(header=header))
        parts.put(imports.ImportRequest(csv=csv))
        responses = self.call(self.imports.Import, iter(parts.get, None))
        committed = next(response for response in responses if response.rows > 0)
        responses.cancel()
        # Whoever reads the parts need not wait any more.
        parts.put(None)
        return committed

    def import_csv(self, csv, checkpoint=None):
        header = imports.ImportHeader(entity=imports.IMPORT_ENTITY_CUSTOMERS, resume_from=checkpoint)
        parts = [imports.ImportRequest(header=header), imports.ImportRequest(csv=csv)]
        *_, last = self.call(self.imports.Import, iter(parts))
        expect("the import's end", last.done, True)
        return last

    # 3. Who is on the old version; saved once, though asked for twice.

    def select(self):
        def equal(field, value):
            compare = {"operator": selections.OPERATOR_EQUAL, "values": [selections.Value(text=value)]}
            return selections.Criteria(compare=selections.Compare(field=field, **compare))

        version = equal("product_version", f"products/{self.run}/versions/old")
        both = selections.CriteriaList(criteria=[equal("brand", f"brands/{self.run}"), version])
        selection = selections.Selection(
            display_name=self.run,
            subject=selections.SUBJECT_CONTRACT,
            criteria=selections.Criteria(all=both),
        )
        request = selections.CreateSelectionRequest(selection=selection, request_id=str(uuid.uuid4()))
        saved = self.call(self.selections.CreateSelection, request)
        expect("the same request again", self.call(self.selections.CreateSelection, request), saved)
        request.selection.display_name = "another"
        reused = (StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
        self.refused(self.selections.CreateSelection, request, *reused)

        request = selections.PreviewSelectionRequest(selection=saved.name, sample_size=1)
        preview = self.call(self.selections.PreviewSelection, request)
        expect("contracts and customers", (preview.count, preview.customers), (CUSTOMERS, CUSTOMERS))
        expect("the first example", preview.sample[0].contract, f"contracts/{self.run}-01")
        say(f"selection: {preview.count} contracts")
        return saved.name

    # 4. What is wrong is told, all of it, for programs to read.

    def be_refused(self):
        request = campaigns.LaunchCampaignRequest(request_id="1", target_product_version="1")
        wrong = (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        details = self.refused(self.campaigns.LaunchCampaign, request, *wrong)
        fields = sorted(violation.field for violation in details["BadRequest"].field_violations)
        wanted = [
            "audience",
            "campaign_target",
            "offer_valid_until_date",
            "outbound.channel_account",
            "request_id",
            "target_product_version",
        ]
        expect("fields of a wrong launch", fields, wanted)
        say(f"refused: {len(fields)} fields")

        request = campaigns.GetCampaignRequest(name=f"campaigns/{uuid.uuid4()}")
        self.refused(self.campaigns.GetCampaign, request, StatusCode.NOT_FOUND, "NOT_FOUND")
        metadata, self.metadata = self.metadata, self.identity
        self.refused(self.campaigns.GetCampaign, request, StatusCode.UNAUTHENTICATED, "TENANT_REQUIRED")
        self.metadata = metadata

    def refused(self, method, request, code, reason):
        """Makes a call that must be refused; gives the details of its status by their type."""
        try:
            self.call(method, request)
            sys.exit(f"not refused with {reason}: {request}")
        except grpc.RpcError as error:
            expect(f"code of a refusal ({error.details()})", error.code(), code)
            packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
        details = {}
        for detail in status_pb2.Status.FromString(packed).details:
            name = detail.TypeName().removeprefix("google.rpc.")
            details[name] = getattr(error_details_pb2, name)()
            detail.Unpack(details[name])
        info = details["ErrorInfo"]
        expect("domain and reason of a refusal", (info.domain, info.reason), ("anklang", reason))
        return details

    # 5. The launch, done once; its progress is watched to the end.

    def launch(self, selection):
        until = datetime.date.today() + datetime.timedelta(days=28)
        request = campaigns.LaunchCampaignRequest(
            new_campaign=campaigns.Campaign(display_name=self.run),
            selection=selection,
            target_product_version=f"products/{self.run}/versions/new",
            offer_valid_until_date=date_pb2.Date(year=until.year, month=until.month, day=until.day),
            outbound=campaigns.OutboundSpec(channel_account="channelAccounts/mail"),
            request_id=str(uuid.uuid4()),
        )
        name = self.call(self.campaigns.LaunchCampaign, request).name
        expect("the launch again", self.call(self.campaigns.LaunchCampaign, request).name, name)

        phases = []
        for watched in self.call(self.progress.WatchOperation, progress.WatchOperationRequest(name=name)):
            metadata = progress.OperationMetadata()
            watched.operation.metadata.Unpack(metadata)
            # None until a worker has taken it.
            if metadata.phase and metadata.phase not in phases:
                phases.append(metadata.phase)
        expect("the end of what was watched", watched.operation.done, True)
        say(f"launch: {', '.join(phases)}")

        # Who does not watch waits, at most a minute, and asks again.
        request = longrunning.WaitOperationRequest(name=name, timeout=duration_pb2.Duration(seconds=30))
        while not (operation := self.call(self.operations.WaitOperation, request)).done:
            pass
        expect("the launch's error", operation.error.message, "")
        launched = campaigns.LaunchCampaignResponse()
        operation.response.Unpack(launched)
        counts = (launched.candidates, launched.members, launched.excluded)
        expect("candidates, members, left out", counts, (CUSTOMERS, MEMBERS, SILENT))
        return launched.campaign.name

    # 6. Its offers, page by page.

    def list_offers(self, campaign):
        found, sizes = [], []
        request = offers.ListOffersRequest(campaign=campaign, page_size=PAGES[0])
        while True:
            page = self.call(self.offers.ListOffers, request)
            found += page.offers
            sizes.append(len(page.offers))
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        expect("sizes of the pages", sizes, PAGES)
        expect("different offers", len({offer.name for offer in found}), MEMBERS)
        say(f"offers: {len(found)} on {len(sizes)} pages")

        # A token is for the request that it came from.
        request.campaign = ""
        wrong = (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        details = self.refused(self.offers.ListOffers, request, *wrong)
        expect("what is wrong", details["BadRequest"].field_violations[0].field, "page_token")
        return found

    # 7. Answers: given once, and to what was seen.

    def answer(self, one, other):
        seen = {"name": one.name, "etag": one.etag}
        request = offers.AcceptOfferRequest(source="web", request_id=str(uuid.uuid4()), **seen)
        accepted = self.call(self.offers.AcceptOffer, request)
        expect("state of the one", accepted.state, offers.OFFER_STATE_ACCEPTED)
        expect("the same answer again", self.call(self.offers.AcceptOffer, request), accepted)

        request = offers.RejectOfferRequest(name=one.name, source="phone")
        illegal = (StatusCode.FAILED_PRECONDITION, "ILLEGAL_TRANSITION")
        details = self.refused(self.offers.RejectOffer, request, *illegal)
        expect("what is accepted", details["PreconditionFailure"].violations[0].subject, one.name)

        seen = {"name": other.name, "etag": accepted.etag}
        request = offers.RejectOfferRequest(reason_code=offers.REJECT_REASON_PRICE, **seen)
        self.refused(self.offers.RejectOffer, request, StatusCode.ABORTED, "ETAG_MISMATCH")
        request.etag = other.etag
        rejected = self.call(self.offers.RejectOffer, request)
        expect("state of the other", rejected.state, offers.OFFER_STATE_REJECTED)
        say("answers: 1 accepted, 1 rejected")

    # 8. A letter, which comes in parts.

    def download(self, offer):
        request = offers.DownloadOfferDocumentRequest(name=offer.name)
        pdf = b"".join(part.data for part in self.call(self.offers.DownloadOfferDocument, request))
        expect("the letter's hash", hashlib.sha256(pdf).hexdigest(), offer.document.sha256)
        say(f"letter: {len(pdf)} bytes")

    # 9. The campaign in numbers.

    def count(self, campaign):
        board = self.call(self.campaigns.GetInfoboard, campaigns.GetInfoboardRequest(name=campaign)).total
        made = board.offers
        numbers = (made.made, made.accepted, made.rejected, made.outstanding)
        expect("made, accepted, rejected, outstanding", numbers, (MEMBERS, 1, 1, MEMBERS - 2))
        excluded = [(figure.reason, figure.count) for figure in board.audience.excluded]
        expect("left out", excluded, [(campaigns.EXCLUSION_REASON_NO_CONSENT, SILENT)])


def connect(address, ca):
    if not ca:
        return grpc.insecure_channel(address)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes()))


if len(sys.argv) != 3:
    sys.exit(__doc__)
with connect(sys.argv[1], os.environ.get("ANKLANG_CA")) as channel:
    Story(channel, sys.argv[2], os.environ.get("ANKLANG_TOKEN")).tell()

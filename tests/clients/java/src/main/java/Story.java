import static anklang.imports.v1.Imports.ImportEntity.*;

import anklang.campaigns.v1.CampaignServiceGrpc;
import anklang.campaigns.v1.Campaigns.*;
import anklang.imports.v1.ImportServiceGrpc;
import anklang.imports.v1.Imports.*;
import anklang.offers.v1.OfferServiceGrpc;
import anklang.offers.v1.Offers.*;
import anklang.operations.v1.OperationProgressServiceGrpc;
import anklang.operations.v1.Operations.*;
import anklang.selections.v1.SelectionServiceGrpc;
import anklang.selections.v1.Selections.*;
import com.google.longrunning.Operation;
import com.google.longrunning.OperationsGrpc;
import com.google.longrunning.WaitOperationRequest;
import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.PreconditionFailure;
import com.google.type.Date;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.BlockingClientCall;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.security.MessageDigest;
import java.time.LocalDate;
import java.util.*;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.LongStream;

/**
 * A client in Java: a campaign from the import to the answers, against a running server.
 *
 * <pre>mvn -q compile exec:java -Dexec.args="ADDRESS TENANT"</pre>
 *
 * With ANKLANG_CA, a PEM file, by TLS; with ANKLANG_TOKEN, each call shows it.
 * Tells the story of the README beside this folder; Maven generates the stubs from `proto/`. Exits with 1 and says
 * why when something is not as it should be.
 */
class Story {
    /** Customers, each with a contract; the last ones have not agreed to get mails. */
    static final int CUSTOMERS = 24;
    static final int SILENT = 2;
    static final int MEMBERS = CUSTOMERS - SILENT;

    /** All numbers of a run begin with this, so that runs can share a tenant. */
    final String run = "java-" + uuid().substring(0, 13);
    final List<String> numbers =
            IntStream.rangeClosed(1, CUSTOMERS).mapToObj(i -> "%s-%02d".formatted(run, i)).toList();
    final Channel channel;
    final ImportServiceGrpc.ImportServiceBlockingV2Stub imports;
    final SelectionServiceGrpc.SelectionServiceBlockingV2Stub selections;
    final CampaignServiceGrpc.CampaignServiceBlockingV2Stub campaigns;
    final OfferServiceGrpc.OfferServiceBlockingV2Stub offers;
    final OperationProgressServiceGrpc.OperationProgressServiceBlockingV2Stub progress;
    final OperationsGrpc.OperationsBlockingStub operations;

    Story(Channel channel, String tenant) {
        this.channel = channel;
        var inTenant = showing(channel, "anklang-tenant", tenant);
        imports = ImportServiceGrpc.newBlockingV2Stub(inTenant);
        selections = SelectionServiceGrpc.newBlockingV2Stub(inTenant);
        campaigns = CampaignServiceGrpc.newBlockingV2Stub(inTenant);
        offers = OfferServiceGrpc.newBlockingV2Stub(inTenant);
        progress = OperationProgressServiceGrpc.newBlockingV2Stub(inTenant);
        operations = OperationsGrpc.newBlockingStub(inTenant);
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 2) {
            throw new IllegalArgumentException("ADDRESS TENANT");
        }
        // What a call may take, whichever it is.
        var each = Map.of("name", List.of(Map.of()), "timeout", "60s");
        var ca = System.getenv("ANKLANG_CA");
        var credentials = ca == null ? InsecureChannelCredentials.create()
                : TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build();
        var channel = Grpc.newChannelBuilder(arguments[0], credentials)
                .defaultServiceConfig(Map.of("methodConfig", List.of(each))).build();
        var token = System.getenv("ANKLANG_TOKEN");
        try {
            var identified = token == null ? channel : showing(channel, "authorization", "Bearer " + token);
            new Story(identified, arguments[1]).tell();
        } finally {
            channel.shutdownNow();
        }
    }

    /** Calls with a header. */
    static Channel showing(Channel channel, String key, String value) {
        var headers = new Metadata();
        headers.put(Metadata.Key.of(key, Metadata.ASCII_STRING_MARSHALLER), value);
        return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
    }

    void tell() throws Exception {
        importCatalogue();
        importCustomers();
        var selection = select();
        beRefused();
        var campaign = launch(selection);
        var made = listOffers(campaign);
        answer(made.get(0), made.get(1));
        download(made.get(0));
        count(campaign);
        say("the story is told");
    }

    static void say(String text, Object... values) {
        System.out.println("java: " + text.formatted(values));
    }

    static void expect(String what, Object found, Object wanted) {
        if (!Objects.equals(found, wanted)) {
            throw new AssertionError("%s: %s instead of %s".formatted(what, found, wanted));
        }
    }

    static List<Long> longs(long... values) {
        return LongStream.of(values).boxed().toList();
    }

    static String uuid() {
        return UUID.randomUUID().toString();
    }

    /** 1. A brand, a product and two versions of it, as rows. */
    void importCatalogue() throws Exception {
        var brand = List.of(run, "Story", "story@brand.example");
        importRows(IMPORT_ENTITY_BRANDS, "code name sender_email", List.of(brand));
        var product = List.of(run, "Story electricity", "electricity", run);
        importRows(IMPORT_ENTITY_PRODUCTS, "number name division brand_code", List.of(product));
        var old = List.of(run, "old", "Story old", "139.80", "0.3415", "2024-01-01", "EUR");
        var other = List.of(run, "new", "Story new", "119.40", "0.2995", "2024-01-01", "EUR");
        var columns = "product_number code name base_price_per_year unit_price_per_kwh valid_from currency";
        importRows(IMPORT_ENTITY_PRODUCT_VERSIONS, columns, List.of(old, other));
    }

    void importRows(ImportEntity entity, String columns, List<List<String>> values) throws Exception {
        var header = ImportHeader.newBuilder().setEntity(entity).addAllColumns(List.of(columns.split(" ")));
        var rows = Rows.newBuilder();
        values.forEach(row -> rows.addRows(Row.newBuilder().addAllValues(row)));
        var last = importAll(header, ImportRequest.newBuilder().setRows(rows));
        expect("created and failed rows", longs(last.getCreated(), last.getFailed()), longs(values.size(), 0));
    }

    /** Sends a header and a part; gives the last response. */
    ImportResponse importAll(ImportHeader.Builder header, ImportRequest.Builder part) throws Exception {
        var call = send(header, part);
        call.halfClose();
        var responses = all(call);
        var last = responses.get(responses.size() - 1);
        expect("the import's end", last.getDone(), true);
        return last;
    }

    BlockingClientCall<ImportRequest, ImportResponse> send(ImportHeader.Builder header, ImportRequest.Builder part)
            throws Exception {
        var call = imports.import_();
        call.write(ImportRequest.newBuilder().setHeader(header).build());
        call.write(part.build());
        return call;
    }

    /** What a stream brings, to its end. */
    static <T> List<T> all(BlockingClientCall<?, T> call) throws Exception {
        var messages = new ArrayList<T>();
        for (T message; (message = call.read()) != null; ) {
            messages.add(message);
        }
        return messages;
    }

    /** 2. Customers as CSV: the call breaks off in the middle of a line, and another one goes on. */
    void importCustomers() throws Exception {
        var lines = new ArrayList<String>(List.of("number,kind,first_name,last_name"));
        numbers.forEach(number -> lines.add("%s,person,Käthe,\"Müller, %s\"".formatted(number, number)));
        // Refused, and told with its line; the line of the columns is the first.
        lines.add(6, run + "-bad,robot,Käthe,Müller");
        var csv = ByteString.copyFromUtf8(String.join("\n", lines) + "\n");

        var begun = beginImport(csv.substring(0, csv.size() / 2));
        var checkpoint = begun.getCheckpoint();
        var header = customers().setResumeFrom(checkpoint);
        var rest = importAll(header, csvPart(csv.substring((int) checkpoint.getOffset())));
        var sums = longs(begun.getRows() + rest.getRows(), begun.getCreated() + rest.getCreated(),
                begun.getFailed() + rest.getFailed());
        expect("all, created and failed rows, with a break", sums, longs(CUSTOMERS + 1, CUSTOMERS, 1));
        var bad = begun.getErrors(0);
        expect("the bad row", List.of(bad.getLine(), bad.getField()), List.of(7L, "kind"));
        say("import: %d rows, a break, %d rows; line %d, %s: %s",
                begun.getRows(), rest.getRows(), bad.getLine(), bad.getField(), bad.getReason());
        var again = importAll(customers(), csvPart(csv));
        sums = longs(again.getCreated(), again.getUpdated(), again.getUnchanged());
        expect("the same file again", sums, longs(0, 0, CUSTOMERS));

        var points = numbers.stream().map(n -> List.of(n, "mail", n + "@customer.example")).toList();
        importRows(IMPORT_ENTITY_CONTACT_POINTS, "customer_number channel address", points);
        var consents = numbers.stream().limit(MEMBERS)
                .map(n -> List.of(n, "mail", "marketing", "granted", "2025-06-01T12:00:00+02:00")).toList();
        importRows(IMPORT_ENTITY_CONSENTS, "customer_number channel purpose state recorded_at", consents);
        var contracts = numbers.stream().map(n -> List.of(n, n, run, "electricity", "3200", run, "old")).toList();
        importRows(IMPORT_ENTITY_CONTRACTS, "number customer_number brand_code division annual_quantity_kwh "
                + "product_number product_version_code", contracts);
    }

    /** Sends a beginning, and breaks the call off when what is whole of it is committed. */
    ImportResponse beginImport(ByteString csv) throws Exception {
        var call = send(customers(), csvPart(csv));
        ImportResponse committed;
        do {
            committed = call.read();
        } while (committed.getRows() == 0);
        call.cancel("a break", null);
        return committed;
    }

    static ImportHeader.Builder customers() {
        return ImportHeader.newBuilder().setEntity(IMPORT_ENTITY_CUSTOMERS);
    }

    static ImportRequest.Builder csvPart(ByteString csv) {
        return ImportRequest.newBuilder().setCsv(csv);
    }

    /** 3. Who is on the old version; saved once, though asked for twice. */
    String select() throws Exception {
        var both = CriteriaList.newBuilder()
                .addCriteria(equal("brand", "brands/" + run))
                .addCriteria(equal("product_version", "products/" + run + "/versions/old"));
        var selection = Selection.newBuilder().setDisplayName(run).setSubject(Subject.SUBJECT_CONTRACT)
                .setCriteria(Criteria.newBuilder().setAll(both));
        var request = CreateSelectionRequest.newBuilder().setSelection(selection).setRequestId(uuid());
        var saved = selections.createSelection(request.build());
        expect("the same request again", selections.createSelection(request.build()), saved);
        request.getSelectionBuilder().setDisplayName("another");
        refused(() -> selections.createSelection(request.build()), Status.Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED");

        var find = PreviewSelectionRequest.newBuilder().setSelection(saved.getName()).setSampleSize(1).build();
        var preview = selections.previewSelection(find);
        var counts = longs(preview.getCount(), preview.getCustomers());
        expect("contracts and customers", counts, longs(CUSTOMERS, CUSTOMERS));
        expect("the first example", preview.getSample(0).getContract(), "contracts/" + run + "-01");
        say("selection: %d contracts", preview.getCount());
        return saved.getName();
    }

    static Criteria.Builder equal(String field, String text) {
        return Criteria.newBuilder().setCompare(Compare.newBuilder()
                .setField(field).setOperator(Operator.OPERATOR_EQUAL).addValues(Value.newBuilder().setText(text)));
    }

    /** 4. What is wrong is told, all of it, for programs to read. */
    void beRefused() throws Exception {
        var wrong = LaunchCampaignRequest.newBuilder().setRequestId("1").setTargetProductVersion("1").build();
        var status = refused(() -> campaigns.launchCampaign(wrong), Status.Code.INVALID_ARGUMENT, "INVALID_ARGUMENT");
        var fields = detail(status, BadRequest.class).getFieldViolationsList().stream()
                .map(BadRequest.FieldViolation::getField).sorted().collect(Collectors.joining(" "));
        expect("fields of a wrong launch", fields, "audience campaign_target offer_valid_until_date "
                + "outbound.channel_account request_id target_product_version");
        say("refused: %d fields", fields.split(" ").length);

        var get = GetCampaignRequest.newBuilder().setName("campaigns/" + uuid()).build();
        refused(() -> campaigns.getCampaign(get), Status.Code.NOT_FOUND, "NOT_FOUND");
        var nobodys = CampaignServiceGrpc.newBlockingV2Stub(channel);
        refused(() -> nobodys.getCampaign(get), Status.Code.UNAUTHENTICATED, "TENANT_REQUIRED");
    }

    /** The status of a call that must be refused. */
    static com.google.rpc.Status refused(Callable<?> call, Status.Code code, String reason) throws Exception {
        com.google.rpc.Status status = null;
        try {
            call.call();
        } catch (StatusException error) {
            status = StatusProto.fromThrowable(error);
        }
        Objects.requireNonNull(status, "not refused with " + reason);
        expect("code of a refusal: " + status.getMessage(), status.getCode(), code.value());
        var info = detail(status, ErrorInfo.class);
        expect("domain of a refusal", info.getDomain(), "anklang");
        expect("reason of a refusal", info.getReason(), reason);
        return status;
    }

    /** The details of a status, of one type. */
    static <T extends Message> T detail(com.google.rpc.Status status, Class<T> type) throws Exception {
        for (Any detail : status.getDetailsList()) {
            if (detail.is(type)) {
                return detail.unpack(type);
            }
        }
        throw new AssertionError("no " + type + " in " + status);
    }

    /** 5. The launch, done once; its progress is watched to the end. */
    String launch(String selection) throws Exception {
        var until = LocalDate.now().plusDays(28);
        var request = LaunchCampaignRequest.newBuilder()
                .setNewCampaign(Campaign.newBuilder().setDisplayName(run))
                .setSelection(selection)
                .setTargetProductVersion("products/" + run + "/versions/new")
                .setOfferValidUntilDate(Date.newBuilder()
                        .setYear(until.getYear()).setMonth(until.getMonthValue()).setDay(until.getDayOfMonth()))
                .setOutbound(OutboundSpec.newBuilder().setChannelAccount("channelAccounts/mail"))
                .setRequestId(uuid())
                .build();
        var name = campaigns.launchCampaign(request).getName();
        expect("the launch again", campaigns.launchCampaign(request).getName(), name);

        // The phase is empty until a worker has taken it.
        var phases = new LinkedHashSet<String>();
        var done = false;
        for (var watched : all(progress.watchOperation(WatchOperationRequest.newBuilder().setName(name).build()))) {
            done = watched.getOperation().getDone();
            phases.add(watched.getOperation().getMetadata().unpack(OperationMetadata.class).getPhase());
        }
        expect("the end of what was watched", done, true);
        phases.remove("");
        say("launch: %s", String.join(", ", phases));

        // Who does not watch waits, at most a minute, and asks again.
        var wait = WaitOperationRequest.newBuilder().setName(name).setTimeout(Duration.newBuilder().setSeconds(30));
        Operation operation;
        do {
            operation = operations.waitOperation(wait.build());
        } while (!operation.getDone());
        expect("the launch's error", operation.getError().getMessage(), "");
        var launched = operation.getResponse().unpack(LaunchCampaignResponse.class);
        var counts = longs(launched.getCandidates(), launched.getMembers(), launched.getExcluded());
        expect("candidates, members, left out", counts, longs(CUSTOMERS, MEMBERS, SILENT));
        return launched.getCampaign().getName();
    }

    /** 6. Its offers, page by page. */
    List<Offer> listOffers(String campaign) throws Exception {
        var found = new ArrayList<Offer>();
        var sizes = new ArrayList<Integer>();
        var request = ListOffersRequest.newBuilder().setCampaign(campaign).setPageSize(10);
        for (var token = ""; token != null; ) {
            var page = offers.listOffers(request.setPageToken(token).build());
            found.addAll(page.getOffersList());
            sizes.add(page.getOffersCount());
            token = page.getNextPageToken().isEmpty() ? null : page.getNextPageToken();
        }
        expect("sizes of the pages", sizes, List.of(10, 10, 2));
        expect("different offers", found.stream().map(Offer::getName).distinct().count(), (long) MEMBERS);
        say("offers: %d on %d pages", found.size(), sizes.size());

        // A token is for the request that it came from.
        var other = request.clearCampaign().build();
        var status = refused(() -> offers.listOffers(other), Status.Code.INVALID_ARGUMENT, "INVALID_ARGUMENT");
        expect("what is wrong", detail(status, BadRequest.class).getFieldViolations(0).getField(), "page_token");
        return found;
    }

    /** 7. Answers: given once, and to what was seen. */
    void answer(Offer one, Offer other) throws Exception {
        var accept = AcceptOfferRequest.newBuilder()
                .setName(one.getName()).setEtag(one.getEtag()).setSource("web").setRequestId(uuid()).build();
        var accepted = offers.acceptOffer(accept);
        expect("state of the one", accepted.getState(), OfferState.OFFER_STATE_ACCEPTED);
        expect("the same answer again", offers.acceptOffer(accept), accepted);

        var late = RejectOfferRequest.newBuilder().setName(one.getName()).build();
        var status = refused(() -> offers.rejectOffer(late), Status.Code.FAILED_PRECONDITION, "ILLEGAL_TRANSITION");
        var subject = detail(status, PreconditionFailure.class).getViolations(0).getSubject();
        expect("what is accepted", subject, one.getName());

        var reject = RejectOfferRequest.newBuilder()
                .setName(other.getName()).setEtag(accepted.getEtag()).setReasonCode(RejectReason.REJECT_REASON_PRICE);
        refused(() -> offers.rejectOffer(reject.build()), Status.Code.ABORTED, "ETAG_MISMATCH");
        var rejected = offers.rejectOffer(reject.setEtag(other.getEtag()).build());
        expect("state of the other", rejected.getState(), OfferState.OFFER_STATE_REJECTED);
        say("answers: 1 accepted, 1 rejected");
    }

    /** 8. A letter, which comes in parts. */
    void download(Offer offer) throws Exception {
        var request = DownloadOfferDocumentRequest.newBuilder().setName(offer.getName()).build();
        var pdf = ByteString.empty();
        for (var part : all(offers.downloadOfferDocument(request))) {
            pdf = pdf.concat(part.getData());
        }
        var hash = MessageDigest.getInstance("SHA-256").digest(pdf.toByteArray());
        expect("the letter's hash", HexFormat.of().formatHex(hash), offer.getDocument().getSha256());
        say("letter: %d bytes", pdf.size());
    }

    /** 9. The campaign in numbers. */
    void count(String campaign) throws Exception {
        var board = campaigns.getInfoboard(GetInfoboardRequest.newBuilder().setName(campaign).build()).getTotal();
        var made = board.getOffers();
        var numbers = longs(made.getMade(), made.getAccepted(), made.getRejected(), made.getOutstanding());
        expect("made, accepted, rejected, outstanding", numbers, longs(MEMBERS, 1, 1, MEMBERS - 2));
        var noConsent = ExclusionFigure.newBuilder()
                .setReason(ExclusionReason.EXCLUSION_REASON_NO_CONSENT).setCount(SILENT).build();
        expect("left out", board.getAudience().getExcludedList(), List.of(noConsent));
    }
}

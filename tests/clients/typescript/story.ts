// A client in TypeScript: a campaign from the import to the answers, against a running server.
//
//     npm ci && npm run build && npm run story -- ADDRESS TENANT [grpc|web]
//
// With ANKLANG_TOKEN, each call shows it; with ANKLANG_CA, a PEM file, by TLS. The fetch of gRPC-Web knows other
// authorities than Node.js has only by NODE_EXTRA_CA_CERTS; a browser has its own.
// Tells the story of the README beside this folder by gRPC, or by gRPC-Web as a browser would. The build
// generates the stubs from `proto/` and `third_party/googleapis`. Exits with 1 and says why when something is
// not as it should be. Needs buf.

import { deepStrictEqual } from "node:assert";
import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { equals, type MessageInitShape } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { CampaignService, ExclusionReason, LaunchCampaignResponseSchema } from "./gen/anklang/campaigns/v1/campaigns_pb.js";
import { ImportEntity, ImportService } from "./gen/anklang/imports/v1/imports_pb.js";
import type { ImportHeaderSchema, ImportRequestSchema, ImportResponse } from "./gen/anklang/imports/v1/imports_pb.js";
import { type Offer, OfferSchema, OfferService, OfferState, RejectReason } from "./gen/anklang/offers/v1/offers_pb.js";
import { OperationMetadataSchema, OperationProgressService } from "./gen/anklang/operations/v1/operations_pb.js";
import { Operator, SelectionSchema, SelectionService, Subject } from "./gen/anklang/selections/v1/selections_pb.js";
import { type Operation, Operations } from "./gen/google/longrunning/operations_pb.js";
import { BadRequestSchema, ErrorInfoSchema, PreconditionFailureSchema } from "./gen/google/rpc/error_details_pb.js";

// Customers, each with a contract; the last ones have not agreed to get mails.
const CUSTOMERS = 24;
const SILENT = 2;
const MEMBERS = CUSTOMERS - SILENT;
// Milliseconds that a call may take.
const DEADLINE = 60_000;

type ImportPart = NonNullable<MessageInitShape<typeof ImportRequestSchema>["part"]>;
type Checkpoint = MessageInitShape<typeof ImportHeaderSchema>["resumeFrom"];

const [address, tenant, protocol = "grpc"] = process.argv.slice(2);
if (!address || !tenant || !["grpc", "web"].includes(protocol)) {
  console.error("npm run story -- ADDRESS TENANT [grpc|web]");
  process.exit(64);
}

const say = (text: string) => console.log(`${protocol === "web" ? "web" : "typescript"}: ${text}`);

function expect(what: string, found: unknown, wanted: unknown) {
  deepStrictEqual(found, wanted, new Error(`${what}: ${show(found)} instead of ${show(wanted)}`));
}

const show = (value: unknown) => JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}` : v));

// All numbers of a run begin with this, so that runs can share a tenant.
const run = `${protocol === "web" ? "web" : "ts"}-${randomUUID().slice(0, 13)}`;
const numbers = Array.from({ length: CUSTOMERS }, (_, i) => `${run}-${String(i + 1).padStart(2, "0")}`);

const { ANKLANG_CA: authorities, ANKLANG_TOKEN: token } = process.env;

// Without a tenant when none is given.
function connect(tenant?: string): Transport {
  const identify: Interceptor = (next) => (request) => {
    if (token) request.header.set("authorization", `Bearer ${token}`);
    if (tenant) request.header.set("anklang-tenant", tenant);
    return next(request);
  };
  const baseUrl = `${authorities ? "https" : "http"}://${address}`;
  const options = { baseUrl, interceptors: [identify], defaultTimeoutMs: DEADLINE };
  if (protocol === "web") return createGrpcWebTransport(options);
  return createGrpcTransport({ ...options, nodeOptions: authorities ? { ca: readFileSync(authorities) } : {} });
}

const transport = connect(tenant);
const imports = createClient(ImportService, transport);
const selections = createClient(SelectionService, transport);
const campaigns = createClient(CampaignService, transport);
const offers = createClient(OfferService, transport);

// 1. A brand, a product and two versions of it, as rows.
async function importCatalogue() {
  await importRows(ImportEntity.BRANDS, ["code", "name", "sender_email"], [[run, "Story", "story@brand.example"]]);
  const product = [run, "Story electricity", "electricity", run];
  await importRows(ImportEntity.PRODUCTS, ["number", "name", "division", "brand_code"], [product]);
  const columns = ["product_number", "code", "name", "base_price_per_year", "unit_price_per_kwh"];
  const old = [run, "old", "Story old", "139.80", "0.3415", "2024-01-01", "EUR"];
  const other = [run, "new", "Story new", "119.40", "0.2995", "2024-01-01", "EUR"];
  await importRows(ImportEntity.PRODUCT_VERSIONS, [...columns, "valid_from", "currency"], [old, other]);
}

async function importRows(entity: ImportEntity, columns: string[], values: string[][]) {
  const rows = values.map((values) => ({ values }));
  const header = { entity, columns };
  // In one request where calls cannot stream what they send, as in browsers.
  const last = await (protocol === "web"
    ? imports.importRows({ header, rows })
    : importAll(header, { case: "rows", value: { rows } }));
  expect("created and failed rows", [last.created, last.failed], [BigInt(rows.length), 0n]);
}

// Sends a header and a part; gives the last response.
async function importAll(header: MessageInitShape<typeof ImportHeaderSchema>, part: ImportPart) {
  async function* parts() {
    yield { part: { case: "header" as const, value: header } };
    yield { part };
  }
  let last: ImportResponse | undefined;
  for await (last of imports.import(parts()));
  if (!last?.done) throw new Error("the import has no end");
  return last;
}

// 2. Customers with a bad one among them, and what belongs to them.
async function importCustomers() {
  await (protocol === "web" ? importByRequests() : importAsCsv());
  const points = numbers.map((number) => [number, "mail", `${number}@customer.example`]);
  await importRows(ImportEntity.CONTACT_POINTS, ["customer_number", "channel", "address"], points);
  const consent = ["mail", "marketing", "granted", "2025-06-01T12:00:00+02:00"];
  const consents = numbers.slice(0, MEMBERS).map((number) => [number, ...consent]);
  const of = ["customer_number", "channel", "purpose", "state", "recorded_at"];
  await importRows(ImportEntity.CONSENTS, of, consents);
  const columns = ["number", "customer_number", "brand_code", "division", "annual_quantity_kwh"];
  const contracts = numbers.map((number) => [number, number, run, "electricity", "3200", run, "old"]);
  await importRows(ImportEntity.CONTRACTS, [...columns, "product_number", "product_version_code"], contracts);
}

// As CSV: the call breaks off in the middle of a line, and another one goes on.
async function importAsCsv() {
  const lines = numbers.map((number) => `${number},person,Käthe,"Müller, ${number}"`);
  // Refused, and told with its line; the line of the columns is the first.
  lines.splice(5, 0, `${run}-bad,robot,Käthe,Müller`);
  const csv = Buffer.from(["number,kind,first_name,last_name", ...lines, ""].join("\n"));

  const begun = await beginImport(csv.subarray(0, csv.length / 2));
  const rest = await importCsv(csv.subarray(Number(begun.checkpoint?.offset)), begun.checkpoint);
  const sums = [begun.rows + rest.rows, begun.created + rest.created, begun.failed + rest.failed];
  expect("all, created and failed rows, with a break", sums, [BigInt(CUSTOMERS + 1), BigInt(CUSTOMERS), 1n]);
  const bad = begun.errors[0];
  expect("the bad row", [bad?.line, bad?.field], [7n, "kind"]);
  say(`import: ${begun.rows} rows, a break, ${rest.rows} rows; line ${bad?.line}, ${bad?.field}: ${bad?.reason}`);
  const again = await importCsv(csv);
  expect("the same file again", [again.created, again.updated, again.unchanged], [0n, 0n, BigInt(CUSTOMERS)]);
}

// Request by request: an answer that was lost is asked for by the same rows, and the next go on from the last answer.
async function importByRequests() {
  const values = numbers.map((number) => [number, "person", "Käthe", `Müller, ${number}`]);
  values.splice(5, 0, [`${run}-bad`, "robot", "Käthe", "Müller"]);
  const rows = values.map((values) => ({ values }));
  const half = Math.floor(rows.length / 2);
  const header = { entity: ImportEntity.CUSTOMERS, columns: ["number", "kind", "first_name", "last_name"] };

  const begun = await imports.importRows({ header, rows: rows.slice(0, half) });
  const bad = begun.errors[0];
  expect("the bad row", [bad?.line, bad?.field], [6n, "kind"]);
  const again = await imports.importRows({ header, rows: rows.slice(0, half) });
  expect("the same rows again", [again.created, again.updated, again.unchanged], [0n, 0n, begun.created]);
  const resumed = { ...header, resumeFrom: begun.checkpoint };
  const rest = await imports.importRows({ header: resumed, rows: rows.slice(half) });
  expect("created and failed rows", [begun.created + rest.created, rest.failed], [BigInt(CUSTOMERS), 0n]);
  const next = rest.checkpoint?.line;
  expect("the row after all", next, BigInt(rows.length + 1));
  say(`import: ${begun.rows} rows, and again, ${rest.rows} rows; row ${bad?.line}, ${bad?.field}: ${bad?.reason}`);
}

// Sends a beginning, and breaks the call off when what is whole of it is committed.
async function beginImport(csv: Uint8Array<ArrayBuffer>): Promise<ImportResponse> {
  const broken = new AbortController();
  async function* parts() {
    yield { part: { case: "header" as const, value: { entity: ImportEntity.CUSTOMERS } } };
    yield { part: { case: "csv" as const, value: csv } };
    // More would follow.
    await new Promise((end) => broken.signal.addEventListener("abort", end));
  }
  const call = imports.import(parts(), { signal: broken.signal });
  let committed: ImportResponse | undefined;
  try {
    // Read to its end, so that nothing of the call is left.
    for await (const response of call) {
      if (response.rows === 0n) continue;
      committed = response;
      broken.abort();
    }
  } catch (error) {
    if (ConnectError.from(error).code !== Code.Canceled) throw error;
  }
  if (!committed) throw new Error("the import ended by itself");
  return committed;
}

const importCsv = (csv: Uint8Array<ArrayBuffer>, resumeFrom?: Checkpoint) =>
  importAll({ entity: ImportEntity.CUSTOMERS, resumeFrom }, { case: "csv", value: csv });

// 3. Who is on the old version; saved once, though asked for twice.
async function select() {
  const equal = (field: string, text: string) => ({
    node: {
      case: "compare" as const,
      value: { field, operator: Operator.EQUAL, values: [{ value: { case: "text" as const, value: text } }] },
    },
  });
  const both = [equal("brand", `brands/${run}`), equal("product_version", `products/${run}/versions/old`)];
  const criteria = { node: { case: "all" as const, value: { criteria: both } } };
  const selection = { displayName: run, subject: Subject.CONTRACT, criteria };
  const requestId = randomUUID();
  const saved = await selections.createSelection({ selection, requestId });
  const again = await selections.createSelection({ selection, requestId });
  expect("the same request again", equals(SelectionSchema, again, saved), true);
  const another = { ...selection, displayName: "another" };
  const reused = selections.createSelection({ selection: another, requestId });
  await refused(reused, Code.InvalidArgument, "REQUEST_ID_REUSED");

  const source = { case: "selection" as const, value: saved.name };
  const preview = await selections.previewSelection({ source, sampleSize: 1 });
  const all = BigInt(CUSTOMERS);
  expect("contracts and customers", [preview.count, preview.customers], [all, all]);
  expect("the first example", preview.sample[0]?.contract, `contracts/${run}-01`);
  say(`selection: ${preview.count} contracts`);
  return saved.name;
}

// 4. What is wrong is told, all of it, for programs to read.
async function beRefused() {
  const launch = campaigns.launchCampaign({ requestId: "1", targetProductVersion: "1" });
  const error = await refused(launch, Code.InvalidArgument, "INVALID_ARGUMENT");
  const fields = error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations.map((v) => v.field));
  const wanted = ["audience", "campaign_target", "offer_valid_until_date", "outbound.channel_account", "request_id"];
  expect("fields of a wrong launch", fields.sort(), [...wanted, "target_product_version"]);
  say(`refused: ${fields.length} fields`);

  const name = `campaigns/${randomUUID()}`;
  await refused(campaigns.getCampaign({ name }), Code.NotFound, "NOT_FOUND");
  const nobodys = createClient(CampaignService, connect()).getCampaign({ name });
  await refused(nobodys, Code.Unauthenticated, "TENANT_REQUIRED");
}

// The error of a call that must be refused.
async function refused(call: Promise<unknown>, code: Code, reason: string): Promise<ConnectError> {
  const error = await call.then(
    () => expect("a call that is not refused", undefined, reason),
    (error: unknown) => error,
  );
  if (!(error instanceof ConnectError)) throw error;
  expect(`code of a refusal (${error.rawMessage})`, error.code, code);
  const [info] = error.findDetails(ErrorInfoSchema);
  expect("domain and reason of a refusal", [info?.domain, info?.reason], ["anklang", reason]);
  return error;
}

// 5. The launch, done once; its progress is watched to the end.
async function launch(selection: string) {
  const until = new Date(Date.now() + 28 * 24 * 60 * 60 * 1000);
  const request = {
    campaignTarget: { case: "newCampaign" as const, value: { displayName: run } },
    audience: { case: "selection" as const, value: selection },
    targetProductVersion: `products/${run}/versions/new`,
    offerValidUntilDate: { year: until.getFullYear(), month: until.getMonth() + 1, day: until.getDate() },
    outbound: { channelAccount: "channelAccounts/mail" },
    requestId: randomUUID(),
  };
  const { name } = await campaigns.launchCampaign(request);
  expect("the launch again", (await campaigns.launchCampaign(request)).name, name);

  const phases = new Set<string>();
  let watched: Operation | undefined;
  for await (const response of createClient(OperationProgressService, transport).watchOperation({ name })) {
    watched = response.operation;
    const far = watched?.metadata && anyUnpack(watched.metadata, OperationMetadataSchema);
    // None until a worker has taken it.
    if (far?.phase) phases.add(far.phase);
  }
  expect("the end of what was watched", watched?.done, true);
  say(`launch: ${[...phases].join(", ")}`);

  // Who does not watch waits, at most a minute, and asks again.
  const operations = createClient(Operations, transport);
  let operation: Operation;
  do operation = await operations.waitOperation({ name, timeout: { seconds: 30n } });
  while (!operation.done);
  if (operation.result.case !== "response") throw new Error(`the launch failed: ${operation.result.value?.message}`);
  const launched = anyUnpack(operation.result.value, LaunchCampaignResponseSchema);
  const counts = [launched?.candidates, launched?.members, launched?.excluded];
  expect("candidates, members, left out", counts.map(Number), [CUSTOMERS, MEMBERS, SILENT]);
  return launched?.campaign?.name ?? "";
}

// 6. Its offers, page by page.
async function listOffers(campaign: string) {
  const found: Offer[] = [];
  const sizes: number[] = [];
  let pageToken = "";
  for (;;) {
    const page = await offers.listOffers({ campaign, pageSize: 10, pageToken });
    found.push(...page.offers);
    sizes.push(page.offers.length);
    if (!page.nextPageToken) break;
    pageToken = page.nextPageToken;
  }
  expect("sizes of the pages", sizes, [10, 10, 2]);
  expect("different offers", new Set(found.map((offer) => offer.name)).size, MEMBERS);
  say(`offers: ${found.length} on ${sizes.length} pages`);

  // A token is for the request that it came from.
  const others = offers.listOffers({ pageSize: 10, pageToken });
  const error = await refused(others, Code.InvalidArgument, "INVALID_ARGUMENT");
  expect("what is wrong", error.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field, "page_token");
  return found;
}

// 7. Answers: given once, and to what was seen.
async function answer(one: Offer, other: Offer) {
  const accept = { name: one.name, etag: one.etag, source: "web", requestId: randomUUID() };
  const accepted = await offers.acceptOffer(accept);
  expect("state of the one", accepted.state, OfferState.ACCEPTED);
  expect("the same answer again", equals(OfferSchema, await offers.acceptOffer(accept), accepted), true);

  const late = offers.rejectOffer({ name: one.name });
  const error = await refused(late, Code.FailedPrecondition, "ILLEGAL_TRANSITION");
  expect("what is accepted", error.findDetails(PreconditionFailureSchema)[0]?.violations[0]?.subject, one.name);

  const reject = { name: other.name, etag: accepted.etag, reasonCode: RejectReason.PRICE };
  await refused(offers.rejectOffer(reject), Code.Aborted, "ETAG_MISMATCH");
  const rejected = await offers.rejectOffer({ ...reject, etag: other.etag });
  expect("state of the other", rejected.state, OfferState.REJECTED);
  say("answers: 1 accepted, 1 rejected");
}

// 8. A letter, which comes in parts.
async function download(offer: Offer) {
  const hash = createHash("sha256");
  let size = 0;
  for await (const { data } of offers.downloadOfferDocument({ name: offer.name })) {
    hash.update(data);
    size += data.length;
  }
  expect("the letter's hash", hash.digest("hex"), offer.document?.sha256);
  say(`letter: ${size} bytes`);
}

// 9. The campaign in numbers.
async function count(name: string) {
  const { total } = await campaigns.getInfoboard({ name });
  const made = total?.offers;
  const numbers = [made?.made, made?.accepted, made?.rejected, made?.outstanding];
  expect("made, accepted, rejected, outstanding", numbers.map(Number), [MEMBERS, 1, 1, MEMBERS - 2]);
  const excluded = total?.audience?.excluded.map(({ reason, count }) => [reason, Number(count)]);
  expect("left out", excluded, [[ExclusionReason.NO_CONSENT, SILENT]]);
}

await importCatalogue();
await importCustomers();
const selection = await select();
await beRefused();
const campaign = await launch(selection);
const [one, other] = await listOffers(campaign);
if (!one || !other) throw new Error("there are two offers at least");
await answer(one, other);
await download(one);
await count(campaign);
say("the story is told");

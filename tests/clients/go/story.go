// A client in Go: a campaign from the import to the answers, against a running server.
//
//	go generate && go run . ADDRESS TENANT
//
// With ANKLANG_CA, a PEM file, by TLS; with ANKLANG_TOKEN, each call shows it. Generates the stubs from `proto/` and tells the story of the README beside this folder. Exits with 1 and
// says why when something is not as it should be. Needs buf.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/type/date"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	campaigns "anklang.example/story/gen/anklang/campaigns/v1"
	imports "anklang.example/story/gen/anklang/imports/v1"
	offers "anklang.example/story/gen/anklang/offers/v1"
	progress "anklang.example/story/gen/anklang/operations/v1"
	selections "anklang.example/story/gen/anklang/selections/v1"
)

//go:generate buf generate

const (
	// Customers, each with a contract; the last ones have not agreed to get mails.
	customers = 24
	silent    = 2
	members   = customers - silent
	noConsent = campaigns.ExclusionReason_EXCLUSION_REASON_NO_CONSENT
)

func say(format string, values ...any) {
	fmt.Printf("go: "+format+"\n", values...)
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

func expect(what string, found, wanted any) {
	if !reflect.DeepEqual(found, wanted) {
		fail("%s: %v instead of %v", what, found, wanted)
	}
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

// The answer to a call that must not fail.
func must[T any](answer T, err error) T {
	check(err)
	return answer
}

// What a stream brings, to its end.
func each[T any](stream interface{ Recv() (*T, error) }) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for {
			message, err := stream.Recv()
			if err == io.EOF || !yield(must(message, err)) {
				return
			}
		}
	}
}

// One run. All its numbers begin with `run`, so that runs can share a tenant.
type story struct {
	ctx context.Context
	// For no tenant.
	nobodys context.Context
	run     string
	imports.ImportServiceClient
	selections.SelectionServiceClient
	campaigns.CampaignServiceClient
	longrunningpb.OperationsClient
	progress.OperationProgressServiceClient
	offers.OfferServiceClient
}

func main() {
	if len(os.Args) != 3 {
		fail("go run . ADDRESS TENANT")
	}
	transport := insecure.NewCredentials()
	if ca := os.Getenv("ANKLANG_CA"); ca != "" {
		transport = must(credentials.NewClientTLSFromFile(ca, ""))
	}
	channel := must(grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(transport)))
	defer channel.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if token := os.Getenv("ANKLANG_TOKEN"); token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	s := story{
		// Each call names the tenant, but with a token for one alone.
		metadata.AppendToOutgoingContext(ctx, "anklang-tenant", os.Args[2]),
		ctx,
		"go-" + uuid.NewString()[:13],
		imports.NewImportServiceClient(channel), selections.NewSelectionServiceClient(channel),
		campaigns.NewCampaignServiceClient(channel), longrunningpb.NewOperationsClient(channel),
		progress.NewOperationProgressServiceClient(channel), offers.NewOfferServiceClient(channel),
	}
	s.importCatalogue()
	s.importCustomers()
	selection := s.selectContracts()
	s.beRefused()
	campaign := s.launch(selection)
	made := s.listOffers(campaign)
	s.answer(made[0], made[1])
	s.download(made[0])
	s.count(campaign)
	say("the story is told")
}

// 1. A brand, a product and two versions of it, as rows.
func (s *story) importCatalogue() {
	s.importRows("BRANDS", "code name sender_email", []string{s.run, "Story", "story@brand.example"})
	s.importRows("PRODUCTS", "number name division brand_code",
		[]string{s.run, "Story electricity", "electricity", s.run})
	s.importRows("PRODUCT_VERSIONS",
		"product_number code name base_price_per_year unit_price_per_kwh valid_from currency",
		[]string{s.run, "old", "Story old", "139.80", "0.3415", "2024-01-01", "EUR"},
		[]string{s.run, "new", "Story new", "119.40", "0.2995", "2024-01-01", "EUR"})
}

func (s *story) importRows(entity, columns string, values ...[]string) {
	rows := &imports.Rows{}
	for _, row := range values {
		rows.Rows = append(rows.Rows, &imports.Row{Values: row})
	}
	number := imports.ImportEntity(imports.ImportEntity_value["IMPORT_ENTITY_"+entity])
	header := &imports.ImportHeader{Entity: number, Columns: strings.Fields(columns)}
	last := s.importAll(header, &imports.ImportRequest{Part: &imports.ImportRequest_Rows{Rows: rows}})
	expect("created and failed rows", []int64{last.Created, last.Failed}, []int64{int64(len(values)), 0})
}

// Sends a header and a part; gives the last response.
func (s *story) importAll(header *imports.ImportHeader, part *imports.ImportRequest) *imports.ImportResponse {
	stream := s.send(s.ctx, header, part)
	check(stream.CloseSend())
	responses := slices.Collect(each(stream))
	last := responses[len(responses)-1]
	expect("the import's end", last.Done, true)
	return last
}

func (s *story) send(
	ctx context.Context, header *imports.ImportHeader, part *imports.ImportRequest,
) imports.ImportService_ImportClient {
	stream := must(s.Import(ctx))
	check(stream.Send(&imports.ImportRequest{Part: &imports.ImportRequest_Header{Header: header}}))
	check(stream.Send(part))
	return stream
}

// 2. Customers as CSV: the call breaks off in the middle of a line, and another one goes on.
func (s *story) importCustomers() {
	var contactPoints, consents, contracts [][]string
	csv := "number,kind,first_name,last_name\n"
	for i := 1; i <= customers; i++ {
		n := fmt.Sprintf("%s-%02d", s.run, i)
		if i == 6 {
			// Refused, and told with its line; the line of the columns is the first.
			csv += s.run + "-bad,robot,Käthe,Müller\n"
		}
		csv += fmt.Sprintf("%s,person,Käthe,\"Müller, %s\"\n", n, n)
		contactPoints = append(contactPoints, []string{n, "mail", n + "@customer.example"})
		if i <= members {
			consents = append(consents, []string{n, "mail", "marketing", "granted", "2025-06-01T12:00:00+02:00"})
		}
		contracts = append(contracts, []string{n, n, s.run, "electricity", "3200", s.run, "old"})
	}

	begun := s.beginImport(csv[:len(csv)/2])
	rest := s.importAll(customersCSV(csv[begun.Checkpoint.Offset:], begun.Checkpoint))
	sums := []int64{begun.Rows + rest.Rows, begun.Created + rest.Created, begun.Failed + rest.Failed}
	expect("all, created and failed rows, with a break", sums, []int64{customers + 1, customers, 1})
	bad := begun.Errors[0]
	expect("the bad row", []any{bad.Line, bad.Field}, []any{int64(7), "kind"})
	say("import: %d rows, a break, %d rows; line %d, %s: %s", begun.Rows, rest.Rows, bad.Line, bad.Field, bad.Reason)
	again := s.importAll(customersCSV(csv, nil))
	expect("the same file again", []int64{again.Created, again.Updated, again.Unchanged}, []int64{0, 0, customers})

	s.importRows("CONTACT_POINTS", "customer_number channel address", contactPoints...)
	s.importRows("CONSENTS", "customer_number channel purpose state recorded_at", consents...)
	s.importRows("CONTRACTS", "number customer_number brand_code division "+
		"annual_quantity_kwh product_number product_version_code", contracts...)
}

// Sends a beginning, and breaks the call off when what is whole of it is committed.
func (s *story) beginImport(csv string) (committed *imports.ImportResponse) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	header, part := customersCSV(csv, nil)
	for committed = range each(s.send(ctx, header, part)) {
		if committed.Rows > 0 {
			break
		}
	}
	return committed
}

// Header and part of a CSV, or of what is left of it.
func customersCSV(csv string, from *imports.ImportCheckpoint) (*imports.ImportHeader, *imports.ImportRequest) {
	header := &imports.ImportHeader{Entity: imports.ImportEntity_IMPORT_ENTITY_CUSTOMERS, ResumeFrom: from}
	return header, &imports.ImportRequest{Part: &imports.ImportRequest_Csv{Csv: []byte(csv)}}
}

// 3. Who is on the old version; saved once, though asked for twice.
func (s *story) selectContracts() string {
	equal := func(field, text string) *selections.Criteria {
		return &selections.Criteria{Node: &selections.Criteria_Compare{Compare: &selections.Compare{
			Field:    field,
			Operator: selections.Operator_OPERATOR_EQUAL,
			Values:   []*selections.Value{{Value: &selections.Value_Text{Text: text}}},
		}}}
	}
	version := equal("product_version", "products/"+s.run+"/versions/old")
	both := &selections.CriteriaList{Criteria: []*selections.Criteria{equal("brand", "brands/"+s.run), version}}
	request := &selections.CreateSelectionRequest{
		Selection: &selections.Selection{
			DisplayName: s.run,
			Subject:     selections.Subject_SUBJECT_CONTRACT,
			Criteria:    &selections.Criteria{Node: &selections.Criteria_All{All: both}},
		},
		RequestId: uuid.NewString(),
	}
	saved := must(s.CreateSelection(s.ctx, request))
	expect("the same request again", proto.Equal(must(s.CreateSelection(s.ctx, request)), saved), true)
	request.Selection.DisplayName = "another"
	_, err := s.CreateSelection(s.ctx, request)
	refused(err, codes.InvalidArgument, "REQUEST_ID_REUSED")

	source := &selections.PreviewSelectionRequest_Selection{Selection: saved.Name}
	preview := must(s.PreviewSelection(s.ctx, &selections.PreviewSelectionRequest{Source: source, SampleSize: 1}))
	expect("contracts and customers", []int64{preview.Count, preview.Customers}, []int64{customers, customers})
	expect("the first example", preview.Sample[0].Contract, "contracts/"+s.run+"-01")
	say("selection: %d contracts", preview.Count)
	return saved.Name
}

// 4. What is wrong is told, all of it, for programs to read.
func (s *story) beRefused() {
	_, err := s.LaunchCampaign(s.ctx, &campaigns.LaunchCampaignRequest{RequestId: "1", TargetProductVersion: "1"})
	refused(err, codes.InvalidArgument, "INVALID_ARGUMENT")
	var fields []string
	for _, violation := range detail[*errdetails.BadRequest](err).FieldViolations {
		fields = append(fields, violation.Field)
	}
	slices.Sort(fields)
	expect("fields of a wrong launch", strings.Join(fields, " "), "audience campaign_target "+
		"offer_valid_until_date outbound.channel_account request_id target_product_version")
	say("refused: %d fields", len(fields))

	get := &campaigns.GetCampaignRequest{Name: "campaigns/" + uuid.NewString()}
	_, err = s.GetCampaign(s.ctx, get)
	refused(err, codes.NotFound, "NOT_FOUND")
	_, err = s.GetCampaign(s.nobodys, get)
	refused(err, codes.Unauthenticated, "TENANT_REQUIRED")
}

func refused(err error, code codes.Code, reason string) {
	expect(fmt.Sprintf("code of a refusal (%v)", err), status.Code(err), code)
	info := detail[*errdetails.ErrorInfo](err)
	expect("domain and reason of a refusal", []string{info.Domain, info.Reason}, []string{"anklang", reason})
}

// The details of a refusal, of one type.
func detail[T proto.Message](err error) (found T) {
	for _, detail := range status.Convert(err).Details() {
		if found, ok := detail.(T); ok {
			return found
		}
	}
	fail("no %T in %v", found, err)
	return found
}

// 5. The launch, done once; its progress is watched to the end.
func (s *story) launch(selection string) string {
	year, month, day := time.Now().AddDate(0, 0, 28).Date()
	campaign := &campaigns.Campaign{DisplayName: s.run}
	request := &campaigns.LaunchCampaignRequest{
		CampaignTarget:       &campaigns.LaunchCampaignRequest_NewCampaign{NewCampaign: campaign},
		Audience:             &campaigns.LaunchCampaignRequest_Selection{Selection: selection},
		TargetProductVersion: "products/" + s.run + "/versions/new",
		OfferValidUntilDate:  &date.Date{Year: int32(year), Month: int32(month), Day: int32(day)},
		Outbound:             &campaigns.OutboundSpec{ChannelAccount: "channelAccounts/mail"},
		RequestId:            uuid.NewString(),
	}
	name := must(s.LaunchCampaign(s.ctx, request)).Name
	expect("the launch again", must(s.LaunchCampaign(s.ctx, request)).Name, name)

	var phases []string
	var watched *progress.WatchOperationResponse
	watch := &progress.WatchOperationRequest{Name: name}
	for watched = range each(must(s.WatchOperation(s.ctx, watch))) {
		var far progress.OperationMetadata
		check(watched.Operation.Metadata.UnmarshalTo(&far))
		// None until a worker has taken it.
		if far.Phase != "" && !slices.Contains(phases, far.Phase) {
			phases = append(phases, far.Phase)
		}
	}
	expect("the end of what was watched", watched.Operation.Done, true)
	say("launch: %s", strings.Join(phases, ", "))

	// Who does not watch waits, at most a minute, and asks again.
	var operation *longrunningpb.Operation
	wait := &longrunningpb.WaitOperationRequest{Name: name, Timeout: durationpb.New(30 * time.Second)}
	for !operation.GetDone() {
		operation = must(s.WaitOperation(s.ctx, wait))
	}
	expect("the launch's error", operation.GetError().GetMessage(), "")
	var launched campaigns.LaunchCampaignResponse
	check(operation.GetResponse().UnmarshalTo(&launched))
	counts := []int64{launched.Candidates, launched.Members, launched.Excluded}
	expect("candidates, members, left out", counts, []int64{customers, members, silent})
	return launched.Campaign.Name
}

// 6. Its offers, page by page.
func (s *story) listOffers(campaign string) (found []*offers.Offer) {
	request := &offers.ListOffersRequest{Campaign: campaign, PageSize: 10}
	var sizes []int
	names := map[string]bool{}
	for page := (*offers.ListOffersResponse)(nil); page == nil || page.NextPageToken != ""; {
		request.PageToken = page.GetNextPageToken()
		page = must(s.ListOffers(s.ctx, request))
		sizes = append(sizes, len(page.Offers))
		for _, offer := range page.Offers {
			found = append(found, offer)
			names[offer.Name] = true
		}
	}
	expect("sizes of the pages", sizes, []int{10, 10, 2})
	expect("different offers", len(names), members)
	say("offers: %d on %d pages", len(found), len(sizes))

	// A token is for the request that it came from.
	request.Campaign = ""
	_, err := s.ListOffers(s.ctx, request)
	refused(err, codes.InvalidArgument, "INVALID_ARGUMENT")
	expect("what is wrong", detail[*errdetails.BadRequest](err).FieldViolations[0].Field, "page_token")
	return found
}

// 7. Answers: given once, and to what was seen.
func (s *story) answer(one, other *offers.Offer) {
	accept := &offers.AcceptOfferRequest{Name: one.Name, Etag: one.Etag, RequestId: uuid.NewString()}
	accepted := must(s.AcceptOffer(s.ctx, accept))
	expect("state of the one", accepted.State, offers.OfferState_OFFER_STATE_ACCEPTED)
	expect("the same answer again", proto.Equal(must(s.AcceptOffer(s.ctx, accept)), accepted), true)

	_, err := s.RejectOffer(s.ctx, &offers.RejectOfferRequest{Name: one.Name})
	refused(err, codes.FailedPrecondition, "ILLEGAL_TRANSITION")
	expect("what is accepted", detail[*errdetails.PreconditionFailure](err).Violations[0].Subject, one.Name)

	reject := &offers.RejectOfferRequest{Name: other.Name, Etag: accepted.Etag, Reason: "too dear"}
	_, err = s.RejectOffer(s.ctx, reject)
	refused(err, codes.Aborted, "ETAG_MISMATCH")
	reject.Etag = other.Etag
	expect("state of the other", must(s.RejectOffer(s.ctx, reject)).State, offers.OfferState_OFFER_STATE_REJECTED)
	say("answers: 1 accepted, 1 rejected")
}

// 8. A letter, which comes in parts.
func (s *story) download(offer *offers.Offer) {
	var pdf []byte
	request := &offers.DownloadOfferDocumentRequest{Name: offer.Name}
	for part := range each(must(s.DownloadOfferDocument(s.ctx, request))) {
		pdf = append(pdf, part.Data...)
	}
	expect("the letter's hash", fmt.Sprintf("%x", sha256.Sum256(pdf)), offer.Document.Sha256)
	say("letter: %d bytes", len(pdf))
}

// 9. The campaign in numbers.
func (s *story) count(campaign string) {
	board := must(s.GetInfoboard(s.ctx, &campaigns.GetInfoboardRequest{Name: campaign})).Total
	numbers := []int64{board.Offers.Made, board.Offers.Accepted, board.Offers.Rejected, board.Offers.Outstanding}
	expect("made, accepted, rejected, outstanding", numbers, []int64{members, 1, 1, members - 2})
	excluded := board.Audience.Excluded[0]
	expect("left out", []any{excluded.Reason, excluded.Count}, []any{noConsent, int64(silent)})
}

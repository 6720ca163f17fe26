package schema

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names on NATS.
const (
	StreamScans    = "SCANS"
	StreamRejects  = "REJECTS"
	StreamSuspects = "SUSPECTS"

	HeaderContentType  = "Content-Type"
	HeaderRejectCode   = "Reject-Code"
	HeaderRejectReason = "Reject-Reason"
	HeaderRejectField  = "Reject-Field" // names the field at fault, where one is

	// CheckSubjects are where it is asked whether a box may be sold.
	CheckSubjects = "check.v1.*.*"

	// HeaderError is on the answer to a check that was no question; the body is then
	// problem+json with a sentence in detail.
	HeaderError = "Nats-Service-Error-Code"
)

// ScanSubject is where the scanners of an institution publish.
func ScanSubject(region, org string) string { return "scan.v1." + region + "." + org }

// CheckSubject is where an institution asks before it sells.
func CheckSubject(region, org string) string { return "check.v1." + region + "." + org }

// ValidOrg tells whether s may be the number of an institution, and so a word of a
// subject.
func ValidOrg(s string) bool { return s != "" && len(s) <= members[fOrg].max && validOrg(bytesOf(s)) }

// ValidRegion is the same for a county: 6 digits.
func ValidRegion(s string) bool { return len(s) == 6 && digitsOnly(s) }

// SetBatch makes a message the nth, from 1, of the atomic batch id: all are stored or
// none, once the last has come.
func SetBatch(header nats.Header, id string, n int, last bool) {
	header["Nats-Batch-Id"] = []string{id}
	header["Nats-Batch-Sequence"] = []string{strconv.Itoa(n)}
	if last {
		header["Nats-Batch-Commit"] = []string{"1"}
	}
}

// Home is the institution a message comes from. NATS lets a sender publish under
// its own names alone, so a subject can be trusted where an event cannot.
type Home struct{ Region, Org string }

// HomeOf reads it off the subject of a message. No event is at home in what is no
// subject of a scan.
func HomeOf(subject string) Home {
	rest, ours := strings.CutPrefix(subject, "scan.v1.")
	region, org, two := strings.Cut(rest, ".")
	if !ours || !two || strings.Contains(org, ".") {
		return Home{}
	}
	return Home{region, org}
}

// Foreign says why s does not belong into a message from h, nil when it does.
func (h Home) Foreign(s *Scan) *Refusal {
	switch {
	case s.Org != h.Org:
		return &Refusal{Code: RefuseForeign, Field: "org", Reason: "is not the institution that the message came from"}
	case s.Region != h.Region:
		return &Refusal{Code: RefuseForeign, Field: "region", Reason: "is not the region that the message came from"}
	}
	return nil
}

// What a server answers that has no room: the stream, or the server's disk, or the
// account.
const (
	errStreamFull       jetstream.ErrorCode = 10077
	errResources        jetstream.ErrorCode = 10023
	errAccountResources jetstream.ErrorCode = 10002
)

// IsFull tells whether a publish failed as NATS has no room for anything new. What
// it has is safe.
func IsFull(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains([]jetstream.ErrorCode{errStreamFull, errResources, errAccountResources}, api.ErrorCode)
}

// RejectSubject is where refused events of an institution go.
func RejectSubject(region, org string) string { return "reject.v1." + region + "." + org }

// SuspectSubject is where a suspect of a detector goes.
func SuspectSubject(region, detector string) string { return "suspect.v1." + region + "." + detector }

// EnsureStreams creates the streams that are missing, with replicas copies. A
// stream that is there keeps its limits, but is refused when it could lose
// scans: not on file, written out later, or dropping old messages when full.
// SCANS is made to take atomic batches where the server knows them.
func EnsureStreams(ctx context.Context, js jetstream.JetStream, replicas int) error {
	for name, subject := range map[string]string{
		StreamScans:    "scan.v1.>",
		StreamRejects:  "reject.v1.>",
		StreamSuspects: "suspect.v1.>",
	} {
		stream, err := js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = js.CreateStream(ctx, jetstream.StreamConfig{
				Name:      name,
				Subjects:  []string{subject},
				Storage:   jetstream.FileStorage,
				Retention: jetstream.LimitsPolicy,
				// A full stream refuses the new and never drops the old.
				Discard:    jetstream.DiscardNew,
				Replicas:   max(replicas, 1),
				Duplicates: 2 * time.Minute,
				// One sync of the disk can then serve many messages.
				AllowAtomicPublish: name == StreamScans,
			})
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", name, err)
		}
		config := stream.CachedInfo().Config
		switch {
		case !slices.Contains(config.Subjects, subject):
			return fmt.Errorf("stream %s listens to %v, want %s: delete or rename it", name, config.Subjects, subject)
		case config.Storage != jetstream.FileStorage:
			return fmt.Errorf("stream %s is not stored on file, a restart would lose it: make it anew with file storage", name)
		case config.Discard != jetstream.DiscardNew:
			return fmt.Errorf("stream %s drops old messages when full: set discard to new", name)
		case config.PersistMode == jetstream.AsyncPersistMode:
			return fmt.Errorf("stream %s acknowledges before it writes, a killed server would lose scans: set persist_mode to default", name)
		}
		if name == StreamScans && !config.AllowAtomicPublish {
			if err := allowAtomicPublish(ctx, js, name); err != nil {
				return fmt.Errorf("have stream %s take atomic batches: %w", name, err)
			}
		}
	}
	return nil
}

// allowAtomicPublish switches that one setting on and sends all others back as
// they came, also those this client does not know. A server that refuses is left
// alone: publishers then send message by message.
func allowAtomicPublish(ctx context.Context, js jetstream.JetStream, stream string) error {
	api := jetstream.DefaultAPIPrefix
	switch o := js.Options(); {
	case o.Domain != "":
		api = "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		api = strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
	}
	var info struct {
		Config map[string]json.RawMessage `json:"config"`
	}
	answer, err := js.Conn().RequestWithContext(ctx, api+"STREAM.INFO."+stream, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		return err
	}
	if len(info.Config) == 0 {
		return nil // refused
	}
	info.Config["allow_atomic"] = json.RawMessage("true")
	request, err := json.Marshal(info.Config)
	if err != nil {
		return err
	}
	_, err = js.Conn().RequestWithContext(ctx, api+"STREAM.UPDATE."+stream, request)
	return err
}

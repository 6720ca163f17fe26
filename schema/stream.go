package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
)

// ScanSubject is where the scanners of an institution publish.
func ScanSubject(region, org string) string { return "scan.v1." + region + "." + org }

// RejectSubject is where refused events of an institution go.
func RejectSubject(region, org string) string { return "reject.v1." + region + "." + org }

// EnsureStreams creates the streams that are missing, with replicas copies. A
// stream that is there keeps its limits, but is refused when it could lose
// scans: not on file, or dropping old messages when full.
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
		}
	}
	return nil
}

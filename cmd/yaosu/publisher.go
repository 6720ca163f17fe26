package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/scanner"
	"yaosu/schema"
)

// An event as it is published. bad says why the ingester will refuse it.
type event struct {
	region, org string
	json        []byte // valid until the receiver returns; nil when there is nothing to send
	bad         *schema.Refusal
}

// readableOrigin finds what can be part of a subject in an event that is refused.
func readableOrigin(b []byte) (region, org string) {
	var origin struct{ Region, Org any }
	_ = json.Unmarshal(b, &origin) // what could be read before the fault is used
	region, _ = origin.Region.(string)
	if !schema.ValidRegion(region) {
		region = "000000"
	}
	org, _ = origin.Org.(string)
	if !schema.ValidOrg(org) {
		org = "unknown"
	}
	return region, org
}

// published is what publish did.
type published struct {
	scanner.Published          // of valid events
	unsendable        int      // refused ones that could not even be sent as they are
	oversized         int      // valid ones that no message can hold
	rejectSeqs        []uint64 // messages that hold one refused event each
}

// publish sends all events that read yields and waits for every acknowledgement.
// A refused event travels alone, lest it harm neighbours. When read fails, what it
// yielded before is still sent.
func publish(ctx context.Context, js jetstream.JetStream, log *slog.Logger, read func(func(event) error) error) (published, error) {
	publisher, err := scanner.New(js, scanner.Config{Log: log})
	if err != nil {
		return published{}, err
	}
	var done published
	recorded := func(seq uint64) { done.rejectSeqs = append(done.rejectSeqs, seq) }
	readErr := read(func(e event) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var err error
		switch {
		case e.bad == nil:
			err = publisher.Add(ctx, e.region, e.org, e.json)
		case len(e.json) > 0:
			err = publisher.AddMessage(ctx, &scanner.Message{
				Region: e.region, Org: e.org,
				ContentType: schema.ContentNDJSON,
				Body:        bytes.Clone(e.json),
				Stored:      recorded,
			})
		default:
			done.unsendable++
		}
		if !errors.Is(err, scanner.ErrTooLarge) {
			return err
		}
		if e.bad != nil {
			done.unsendable++
			return nil
		}
		done.oversized++
		log.Error("not sent", "error", err)
		return nil
	})
	if ctx.Err() != nil {
		readErr = ctx.Err() // what could not be sent is no fault of the file
	}
	done.Published, err = publisher.Flush(ctx)
	if readErr != nil {
		err = readErr
	}
	return done, err
}

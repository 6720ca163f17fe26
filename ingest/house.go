package ingest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

// classifier reads codes with the placeholders of one moment.
type classifier struct {
	codes *schema.Classifier
	texts []string
}

// keepHouse trims the stream and follows the table of placeholders until ctx ends.
func (in *ingester) keepHouse(ctx context.Context) {
	tick := time.NewTicker(in.Housekeeping)
	defer tick.Stop()
	var before jetstream.ConsumerInfo
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := in.readPlaceholders(ctx); err != nil && ctx.Err() == nil {
			in.Log.Warn("keeping the placeholders of before", "error", err)
		}
		if consumer, err := in.JS.Consumer(ctx, schema.StreamScans, in.Consumer); err == nil {
			now := consumer.CachedInfo()
			// What waits is else only known from the newest message read.
			in.Metrics.waiting.Store(now.NumPending)
			if now.NumAckPending > 0 && sameProgress(now, &before) {
				select {
				case in.stalled <- struct{}{}:
				default: // told already
				}
			}
			before = *now
		}
		if err := in.trim(ctx); err != nil && ctx.Err() == nil {
			in.Log.Warn("not trimmed this time", "error", err)
		}
	}
}

// sameProgress tells whether nothing was delivered or acknowledged in between.
func sameProgress(now, before *jetstream.ConsumerInfo) bool {
	return now.Delivered.Consumer == before.Delivered.Consumer && now.Delivered.Stream == before.Delivered.Stream &&
		now.AckFloor.Stream == before.AckFloor.Stream
}

const selectPlaceholders = `SELECT DISTINCT
    text
FROM placeholders
ORDER BY text`

// readPlaceholders takes up the table of placeholders. New batches use it.
func (in *ingester) readPlaceholders(ctx context.Context) error {
	rows, err := in.Conn.Query(ctx, selectPlaceholders)
	if err != nil {
		return fmt.Errorf("read the placeholders: %w", err)
	}
	defer rows.Close()
	texts := []string{}
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return fmt.Errorf("read the placeholders: %w", err)
		}
		texts = append(texts, text)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the placeholders: %w", err)
	}
	if now := in.classify.Load(); now == nil || !slices.Equal(now.texts, texts) {
		in.classify.Store(&classifier{codes: schema.NewClassifier(texts), texts: texts})
	}
	return nil
}

// trim removes the oldest messages of SCANS that are more than KeepBytes, and
// none that is not acknowledged.
func (in *ingester) trim(ctx context.Context) error {
	stream, err := in.JS.Stream(ctx, schema.StreamScans)
	if err != nil {
		return fmt.Errorf("trim %s: %w", schema.StreamScans, err)
	}
	state := stream.CachedInfo().State
	if state.Bytes <= in.KeepBytes || state.Msgs == 0 {
		return nil
	}
	consumer, err := stream.Consumer(ctx, in.Consumer)
	if err != nil {
		return fmt.Errorf("trim %s: %w", schema.StreamScans, err)
	}
	// Messages differ in size; what this leaves too much goes the next time.
	average := max(1, state.Bytes/state.Msgs)
	before := state.FirstSeq + (state.Bytes-in.KeepBytes+average-1)/average
	before = min(before, consumer.CachedInfo().AckFloor.Stream+1)
	if before <= state.FirstSeq {
		return nil
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(before)); err != nil {
		return fmt.Errorf("trim %s: %w", schema.StreamScans, err)
	}
	in.Log.Debug("trimmed", "stream", schema.StreamScans, "before", before)
	return nil
}

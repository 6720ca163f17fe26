package ingest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

// Headers of a message in REJECTS, beside Reject-Code, Reject-Reason and Reject-Field.
const (
	// HeaderScanSubject, HeaderScanSequence and HeaderScanPosition say where in SCANS
	// the event was: subject and sequence of the message, position in it from 0.
	HeaderScanSubject  = "Scan-Subject"
	HeaderScanSequence = "Scan-Sequence"
	HeaderScanPosition = "Scan-Position"
	// HeaderRejectPart is "1/2" and "2/2", or of more parts, on an event that with its
	// headers is larger than a message may be: the bytes of all parts make the event.
	HeaderRejectPart = "Reject-Part"
)

const (
	publishAtOnce = 256
	publishTime   = 10 * time.Second
)

// reject returns when all of events are in REJECTS and in reject_rows.
func (in *ingester) reject(ctx context.Context, token string, events []refused) error {
	if len(events) == 0 {
		return nil
	}
	for rest := events; len(rest) > 0; rest = rest[min(len(rest), publishAtOnce):] {
		var messages []*nats.Msg
		for i := range rest[:min(len(rest), publishAtOnce)] {
			messages = append(messages, rest[i].messages(int(in.JS.Conn().MaxPayload()))...)
		}
		err := in.persist(ctx, "publish the rejects", func(ctx context.Context) (err error) {
			messages, err = in.publish(ctx, messages)
			return err
		})
		if err != nil {
			return err
		}
	}
	return in.persist(ctx, "insert the rejects", func(ctx context.Context) error {
		return in.insertRejects(ctx, token, events)
	})
}

// publish returns the messages that are not known to be stored.
func (in *ingester) publish(ctx context.Context, messages []*nats.Msg) (rest []*nats.Msg, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	answers := make([]jetstream.PubAckFuture, len(messages))
	for i, msg := range messages {
		if answers[i], err = in.rejects.PublishMsgAsync(msg); err != nil {
			return messages, fmt.Errorf("publish to %s: %w", schema.StreamRejects, err)
		}
	}
	for i, answer := range answers {
		var failed error
		select {
		case <-answer.Ok():
			continue
		case failed = <-answer.Err():
		case <-ctx.Done():
			failed = ctx.Err()
		}
		rest = append(rest, messages[i])
		err = fmt.Errorf("publish to %s: %w", schema.StreamRejects, failed)
	}
	return rest, err
}

// messages is the event as it goes to REJECTS: one message, or several when it
// does not fit into one of most bytes.
func (r *refused) messages(most int) []*nats.Msg {
	subject := schema.RejectSubject(r.region, r.org)
	header := nats.Header{}
	header.Set(schema.HeaderRejectCode, r.why.Code)
	header.Set(schema.HeaderRejectReason, r.why.Reason)
	if r.why.Field != "" {
		header.Set(schema.HeaderRejectField, r.why.Field)
	}
	if r.contentType != "" {
		header.Set(schema.HeaderContentType, r.contentType)
	}
	header.Set(HeaderScanSubject, r.subject)
	header.Set(HeaderScanSequence, strconv.FormatUint(r.seq, 10))
	header.Set(HeaderScanPosition, strconv.Itoa(r.position))
	// Stable, so that a redelivery does not double it. The time tells apart streams
	// that used the sequence before.
	id := fmt.Sprintf("%s:%d:%d:%d", schema.StreamScans, r.seq, r.position, r.received.UnixNano())
	header.Set(nats.MsgIdHdr, id)
	whole := &nats.Msg{Subject: subject, Header: header, Data: r.raw}
	if whole.Size() <= most {
		return []*nats.Msg{whole}
	}
	const partHeader = 100 // the two headers below
	room := max(1, most-(whole.Size()-len(r.raw))-partHeader)
	total := (len(r.raw) + room - 1) / room
	var parts []*nats.Msg
	for data := range slices.Chunk(r.raw, room) {
		part := maps.Clone(header)
		part.Set(HeaderRejectPart, fmt.Sprintf("%d/%d", len(parts)+1, total))
		part.Set(nats.MsgIdHdr, fmt.Sprintf("%s:%d", id, len(parts)+1))
		parts = append(parts, &nats.Msg{Subject: subject, Header: part, Data: data})
	}
	return parts
}

const insertRejects = `INSERT INTO reject_rows
(
    seq,
    position,
    received,
    subject,
    region,
    org,
    event_id,
    code,
    field,
    reason,
    bytes,
    size
)`

func (in *ingester) insertRejects(ctx context.Context, token string, events []refused) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token}))
	rows, err := in.Conn.PrepareBatch(ctx, insertRejects)
	if err != nil {
		return fmt.Errorf("insert %d rejects: %w", len(events), err)
	}
	defer rows.Close()
	for i := range events {
		r := &events[i]
		bytes := schema.ScrubPerson(r.raw, in.Key.Pseudonym) // nil for what is no text
		err := rows.Append(r.seq, uint32(r.position), r.received, r.subject, r.region, r.org, r.eventID,
			r.why.Code, r.why.Field, r.why.Reason, string(bytes), uint64(len(r.raw)))
		if err != nil {
			return fmt.Errorf("insert %d rejects: %w", len(events), err)
		}
	}
	if err := rows.Send(); err != nil {
		return fmt.Errorf("insert %d rejects: %w", len(events), err)
	}
	return nil
}

package scanner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

// What the server answers, by its numbers.
const (
	errAtomicDisabled  jetstream.ErrorCode = 10174
	errAtomicDuplicate jetstream.ErrorCode = 10201
	errMessageTooLarge jetstream.ErrorCode = 10054
	errHeaderTooLarge  jetstream.ErrorCode = 10097
)

// smallBatch is where a batch begins to pay: making its files at the server costs
// about as much as the syncs of so many messages.
const smallBatch = 40

// Between two attempts, at first and at most.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// outgoing is a message with its id.
type outgoing struct {
	*Message
	subject, id string
}

func (o *outgoing) msg() *nats.Msg {
	header := nats.Header{schema.HeaderContentType: {o.ContentType}, jetstream.MsgIDHeader: {o.id}}
	if why := o.Refusal; why != nil {
		header.Set(schema.HeaderRejectCode, why.Code)
		header.Set(schema.HeaderRejectReason, why.Reason)
		if why.Field != "" {
			header.Set(schema.HeaderRejectField, why.Field)
		}
	}
	return &nats.Msg{Subject: o.subject, Header: header, Data: o.Body}
}

// flight is what one acknowledgement is awaited for: a message or a batch.
type flight struct {
	messages []*outgoing
	bytes    int
	future   jetstream.PubAckFuture
	err      error // why it was not even handed over
}

// launch sends messages under one acknowledgement, once there is room.
func (p *Publisher) launch(ctx context.Context, messages []*outgoing) error {
	bytes := 0
	for _, o := range messages {
		bytes += len(o.Body)
	}
	// One flight always has room, however large.
	if err := p.settle(ctx, max(0, p.cfg.Outstanding-len(messages)), max(0, p.cfg.OutstandingBytes-bytes)); err != nil {
		return err
	}
	f := flight{messages: messages, bytes: bytes}
	if len(messages) < min(p.cfg.Batch, smallBatch) || len(messages) == 1 || p.plain {
		for _, o := range messages {
			one := flight{messages: []*outgoing{o}, bytes: len(o.Body)}
			one.future, one.err = p.js.PublishMsgAsync(o.msg())
			p.fly(one)
		}
		return nil
	}
	f.future, f.err = p.sendBatch(messages)
	p.fly(f)
	return nil
}

func (p *Publisher) fly(f flight) {
	p.flights = append(p.flights, f)
	p.inFlight += len(f.messages)
	p.flightBytes += f.bytes
	p.done.Messages += len(f.messages)
	for _, o := range f.messages {
		p.done.Events += o.Events
	}
}

// sendBatch sends messages as an atomic batch. Only the last asks for an answer:
// when an earlier one was refused or lost, the server has no whole batch and says
// so to the last.
func (p *Publisher) sendBatch(messages []*outgoing) (jetstream.PubAckFuture, error) {
	p.batches++
	id := p.batchName + strconv.Itoa(p.batches)
	for i, o := range messages {
		msg, last := o.msg(), i == len(messages)-1
		schema.SetBatch(msg.Header, id, i+1, last)
		if last {
			return p.js.PublishMsgAsync(msg)
		}
		if err := p.js.Conn().PublishMsg(msg); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("an empty batch")
}

// settle awaits acknowledgements, oldest first, until no more than messages and
// bytes are without one.
func (p *Publisher) settle(ctx context.Context, messages, bytes int) error {
	for p.inFlight > messages || p.flightBytes > bytes {
		f := p.flights[0]
		ack, err := await(ctx, f)
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			p.flights[0].err = err // a future tells it once
			if err := p.mend(ctx); err != nil {
				return err
			}
			continue
		}
		p.land(f, ack)
		p.flights[0] = flight{}
		p.flights = p.flights[1:]
	}
	return nil
}

// await returns the acknowledgement of f.
func await(ctx context.Context, f flight) (*jetstream.PubAck, error) {
	if f.err != nil {
		return nil, f.err
	}
	select {
	case ack := <-f.future.Ok():
		return ack, nil
	case err := <-f.future.Err():
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// land counts what is acknowledged. The messages of a batch follow one another in
// the stream, and ack is that of the last.
func (p *Publisher) land(f flight, ack *jetstream.PubAck) {
	p.inFlight -= len(f.messages)
	p.flightBytes -= f.bytes
	p.done.LastSeq = max(p.done.LastSeq, ack.Sequence)
	for i, o := range f.messages {
		p.done.Acknowledged += o.Events
		if o.Stored != nil {
			o.Stored(ack.Sequence - uint64(len(f.messages)-1-i))
		}
	}
}

// mend is called when the oldest flight failed: it awaits all that is on its way
// and sends again what was not acknowledged, one by one with the same ids.
//
// An acknowledgement may be lost after the message was stored; the server then
// knows the id, says so, and that is an acknowledgement too. A batch is refused
// whole for a single id the server knows, and is unclear as a whole when its answer
// is lost; sent one by one, each of its messages gets an answer of its own.
func (p *Publisher) mend(ctx context.Context) error {
	var lost []flight
	expected := true // that the stream knows some of the messages is no trouble
	var cause error
	for len(p.flights) > 0 {
		f := p.flights[0]
		ack, err := await(ctx, f)
		switch {
		case err == nil:
			p.land(f, ack)
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			cause = err
			expected = expected && isAny(err, errAtomicDuplicate, errAtomicDisabled)
			p.plain = p.plain || isAny(err, errAtomicDisabled)
			for _, o := range f.messages {
				lost = append(lost, flight{messages: []*outgoing{o}, bytes: len(o.Body)})
			}
		}
		p.flights = p.flights[1:]
	}
	p.flights = nil
	level := slog.LevelWarn
	if expected {
		level = slog.LevelDebug
	}
	p.cfg.Log.Log(ctx, level, "messages were not acknowledged, sending them again", "messages", len(lost), "error", cause)
	p.done.Resent += len(lost)

	ends, pause := time.Now().Add(p.cfg.RetryFor), firstPause
	for {
		for i := range lost {
			lost[i].future, lost[i].err = p.js.PublishMsgAsync(lost[i].messages[0].msg())
		}
		before := len(lost)
		var stop, refusal error
		lost = slices.DeleteFunc(lost, func(f flight) bool {
			ack, err := await(ctx, f)
			if err != nil {
				stop = err
				if isAny(err, errMessageTooLarge, errHeaderTooLarge) {
					refusal = err
				}
				return false
			}
			p.land(f, ack)
			return true
		})
		switch {
		case len(lost) == 0:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case refusal != nil:
			return fmt.Errorf("publish %d messages: %w: %w", len(lost), ErrRefused, refusal)
		case errors.Is(stop, nats.ErrConnectionClosed):
			return fmt.Errorf("publish %d messages: %w", len(lost), stop)
		case len(lost) < before:
			ends, pause = time.Now().Add(p.cfg.RetryFor), firstPause
		case time.Now().After(ends):
			return p.giveUp(len(lost), stop)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, maxPause)
	}
}

// giveUp says what was tried and, where we know, what to do about it.
func (p *Publisher) giveUp(messages int, cause error) error {
	what := fmt.Sprintf("publish %d messages, tried for %s", messages, p.cfg.RetryFor)
	switch {
	case schema.IsFull(cause):
		return fmt.Errorf("%s: stream %s or the disk of NATS is full and takes nothing new (nothing old is lost): let the ingester catch up or raise the limit, then publish again: %w",
			what, schema.StreamScans, cause)
	case errors.Is(cause, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%s: no stream takes scans here: start `yaosu up` or `yaosu ingest`, which makes it: %w", what, cause)
	}
	return fmt.Errorf("%s: %w", what, cause)
}

func isAny(err error, codes ...jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode)
}

package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"yaosu/gate"
	"yaosu/schema"
)

const (
	queue       = "check" // one of several gates answers
	atOnce      = 64      // requests that are worked on
	mostRequest = 256 << 10
)

// Decode reads a request that came in on a subject. Who may use the subject may ask
// for its institution and for no other; what the body leaves out is taken from the
// subject. Its error is a *gate.RequestError.
func Decode(subject string, body []byte) (gate.CheckRequest, error) {
	var q gate.CheckRequest
	if len(body) > mostRequest {
		return q, &gate.RequestError{Reason: "请求过长"}
	}
	reader := json.NewDecoder(bytes.NewReader(body))
	if err := reader.Decode(&q); err != nil {
		return q, &gate.RequestError{Reason: "请求不是完整的 JSON 对象，或字段类型不对"}
	}
	if _, err := reader.Token(); !errors.Is(err, io.EOF) {
		return q, &gate.RequestError{Reason: "请求须是单独一个 JSON 对象"}
	}
	words := strings.Split(subject, ".")
	if len(words) != 4 {
		return q, &gate.RequestError{Reason: "主题须为 check.v1.<区划>.<机构>"}
	}
	for _, field := range []struct {
		value *string
		word  string
	}{{&q.Region, words[2]}, {&q.Org, words[3]}} {
		if *field.value == "" {
			*field.value = field.word
		}
		if *field.value != field.word {
			return q, &gate.RequestError{Reason: "请求中的机构或区划与主题不符"}
		}
	}
	return q, nil
}

// Serve answers requests over NATS until ctx ends, then finishes those it has.
func (c *Checker) Serve(ctx context.Context, conn *nats.Conn) error {
	places := make(chan struct{}, atOnce)
	var working sync.WaitGroup
	subscription, err := conn.QueueSubscribe(schema.CheckSubjects, queue, func(m *nats.Msg) {
		places <- struct{}{}
		working.Go(func() {
			defer func() { <-places }()
			if err := m.RespondMsg(c.respond(ctx, m)); err != nil && ctx.Err() == nil {
				c.Log.Debug("an answer was not sent", "error", err)
			}
		})
	})
	if err != nil {
		return fmt.Errorf("check: listen on %s: %w", schema.CheckSubjects, err)
	}
	<-ctx.Done()
	err = subscription.Drain()
	working.Wait()
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("check: stop listening: %w", err)
	}
	return nil
}

func (c *Checker) respond(ctx context.Context, m *nats.Msg) *nats.Msg {
	answer := nats.NewMsg(m.Reply)
	q, err := Decode(m.Subject, m.Data)
	var reply gate.CheckReply
	if err == nil {
		reply, err = c.Check(ctx, q)
	}
	var body any = reply
	if err != nil {
		answer.Header.Set(schema.HeaderError, "400")
		body = map[string]any{"title": "请求有误", "status": 400, "detail": err.Error()}
	}
	if answer.Data, err = json.Marshal(body); err != nil {
		c.Log.Warn("an answer could not be written", "error", err)
	}
	return answer
}

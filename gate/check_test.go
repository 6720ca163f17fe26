package gate_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"yaosu/gate"
)

// answering answers as it is told and keeps the last question.
type answering struct {
	err   error
	asked int
	q     gate.CheckRequest
}

func (a *answering) Check(_ context.Context, q gate.CheckRequest) (gate.CheckReply, error) {
	a.asked++
	a.q = q
	return gate.CheckReply{
		Decision: gate.Stop,
		Codes: []gate.CodeReply{{
			Code: q.Codes[0], Scheme: "cn20", Decision: gate.Stop,
			Reasons: []gate.Reason{{Rule: "resold_code", Text: "此码已在其他机构医保结算。"}},
			Last:    &gate.Last{Region: "530902", Time: time.Date(2026, 3, 2, 10, 0, 0, 0, time.FixedZone("", 8*3600))},
		}},
		TookMs: 1.5,
	}, a.err
}

func TestCheckAsksAndAnswersAsTheContractSays(t *testing.T) {
	checker := &answering{}
	url := open(t, gate.Config{Check: checker})
	got := post(t, url+"/v1/check", `{"codes":["81234560000000000017"],"org":"P1","region":"330106","person":"1","settlement":"S","drug":"X","split":true,"quantity":2.5}`)
	want := `{"decision":"stop","degraded":false,"codes":[{"code":"81234560000000000017","scheme":"cn20","decision":"stop",` +
		`"reasons":[{"rule":"resold_code","text":"此码已在其他机构医保结算。"}],"last":{"own":false,"region":"530902","time":"2026-03-02T10:00:00+08:00"}}],"took_ms":1.5}`
	if got.Status != 200 || strings.TrimSpace(got.Body) != want {
		t.Errorf("got  %d %s\nwant 200 %s", got.Status, got.Body, want)
	}
	if q := checker.q; q.Org != "P1" || q.Person != "1" || q.Settlement != "S" || q.Drug != "X" || !q.Split || q.Quantity == nil || *q.Quantity != 2.5 {
		t.Errorf("asked %+v", q)
	}
}

func TestAQuestionThatIsNoneIsNotAsked(t *testing.T) {
	checker := &answering{}
	url := open(t, gate.Config{Check: checker})
	for _, body := range []string{
		"", "[]", "{", `{"codes":["8"],"region":"330106"}`, `{"codes":["8"],"org":"a.b","region":"330106"}`,
		`{"codes":["8"],"org":"P1","region":"3301"}`, `{"codes":[],"org":"P1","region":"330106"}`,
		`{"codes":["8"],"org":"P1","region":"330106","quantity":0}`, `{"codes":"8","org":"P1","region":"330106"}`,
		`{"codes":[` + strings.Repeat(`"8",`, 1000) + `"8"],"org":"P1","region":"330106"}`,
		`{"codes":["8"],"org":"P1","region":"330106","quantity":1e300}`,
		`{"codes":["` + strings.Repeat("8", 1001) + `"],"org":"P1","region":"330106"}`,
		`{"codes":["8"],"org":"P1","region":"330106","person":"` + strings.Repeat("1", 257) + `"}`,
	} {
		if got := post(t, url+"/v1/check", body); got.Status != 400 || got.Code != "bad-request" || got.Detail == "" {
			t.Errorf("%.80s: got %d %s, want 400", body, got.Status, got.Body)
		}
	}
	if checker.asked != 0 {
		t.Errorf("it was asked %d times", checker.asked)
	}
	checker.err = fmt.Errorf("check: %w", &gate.RequestError{Reason: "追溯码过长。"})
	if got := post(t, url+"/v1/check", `{"codes":["8"],"org":"P1","region":"330106"}`); got.Status != 400 || got.Code != "bad-request" || got.Detail != "追溯码过长。" {
		t.Errorf("a checker that finds a fault: got %d %s, want 400 and what it says", got.Status, got.Body)
	}
	checker.err = errors.New("secret")
	got := post(t, url+"/v1/check", `{"codes":["8"],"org":"P1","region":"330106"}`)
	if got.Status != 503 || got.Code != "part-away" || strings.Contains(got.Body, "secret") {
		t.Errorf("a checker that fails: got %d %s, want 503", got.Status, got.Body)
	}
}

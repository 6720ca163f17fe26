package main

import (
	"bytes"
	"strings"
	"testing"

	"yaosu/internal/enginetest"
)

func TestTraceListsTheSuspectsOfACode(t *testing.T) {
	for _, transport := range []string{"native", "http"} {
		t.Run(transport, func(t *testing.T) {
			const code = "81234567890123450001"
			dsn := enginetest.Database(t, transport)
			db := enginetest.Schema(t, dsn)
			for _, query := range []string{
				`INSERT INTO scan_rows (code, org, event_id, digest, promptness, scheme, codes, kind, time, pay, quantity)
				VALUES (1234567890123450001, 'P1', 'e1', 1, 1099511627776, 'cn20', 1, 'sale', '2026-03-01 08:00:00', 'insured', 1)`,
				`INSERT INTO reference_orgs (org, name, status, loaded) VALUES ('P1', '某某大药房', 'active', now64(6))`,
				`INSERT INTO suspect_rows (suspect_id, detector, severity, entity_kind, entity_id, codes, reason, status, version)
				VALUES ('s-mine', 'resold_code', 'high', 'code', '81234567890123450001', ['81234567890123450001'], '同一药品追溯码先后售出', 'open', 1),
				('s-other', 'resold_code', 'high', 'code', '81234567890123450002', ['81234567890123450002'], '别的', 'open', 1)`,
			} {
				if err := db.Exec(t.Context(), query); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range []struct {
				format string
				want   []string
			}{
				{"table", []string{"某某大药房 P1", "涉及此码的线索 1 条", "| s-mine ", "resold_code", "| 高 ", "| 待核 ", "同一药品追溯码先后售出"}},
				{"ndjson", []string{`{"type":"event","time":"2026-03-01T08:00:00+08:00"`, `"org_name":"某某大药房"`, `{"type":"suspect","suspect_id":"s-mine"`}},
			} {
				var out, errs bytes.Buffer
				status := run(t.Context(), []string{"yaosu", "trace", "--clickhouse", dsn, "--format", c.format, code}, nil, &out, &errs)
				if status != exitDone {
					t.Fatalf("%s: got status %d and %q, want 0", c.format, status, errs.String())
				}
				for _, want := range c.want {
					if !strings.Contains(out.String(), want) {
						t.Errorf("%s: got %s, want %q in it", c.format, out.String(), want)
					}
				}
				if strings.Contains(out.String(), "s-other") {
					t.Errorf("%s: got %s, want no other code's suspect", c.format, out.String())
				}
			}
		})
	}
}

func TestVerbsSayThatTheSchemaIsMissing(t *testing.T) {
	for _, transport := range []string{"native", "http"} {
		t.Run(transport, func(t *testing.T) {
			dsn := enginetest.Database(t, transport)
			var out, errs bytes.Buffer
			status := run(t.Context(), []string{"yaosu", "rejects", "--clickhouse", dsn}, nil, &out, &errs)
			if want := "run `yaosu schema apply` first"; status != exitFailed || !strings.Contains(errs.String(), want) {
				t.Errorf("got status %d and %q, want 1 and %q", status, errs.String(), want)
			}
			for _, want := range []string{"applied 0001_", "the schema is up to date"} {
				out.Reset()
				if status := run(t.Context(), []string{"yaosu", "schema", "apply", "--clickhouse", dsn}, nil, &out, &errs); status != exitDone || !strings.Contains(out.String(), want) {
					t.Errorf("schema apply: got status %d, %q and %q, want 0 and %q", status, out.String(), errs.String(), want)
				}
			}
		})
	}
}

package export_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"yaosu/detect/export"
	"yaosu/internal/enginetest"
	"yaosu/local"
	"yaosu/schema"
)

// store makes a database that holds list, and a vault that knows its person.
func store(t *testing.T, transport string, list []schema.Suspect) *schema.Conn {
	t.Helper()
	conn := enginetest.Schema(t, enginetest.Database(t, transport))
	batch, err := conn.PrepareBatch(t.Context(), `INSERT INTO suspect_rows (suspect_id, detector, detector_version, severity, entity_kind, entity_id, period, regions, score,
		first_time, last_time, amount, events, codes, orgs, roles, persons, reason, parameters, status, opened_at, updated_at, version, superseded_by)`)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		err := batch.Append(s.ID, s.Detector, s.DetectorVersion, s.Severity, s.EntityKind, s.EntityID, s.Period, s.Regions, s.Score,
			s.FirstTime, s.LastTime, s.Amount, s.Events, s.Codes, s.Orgs, s.Roles, s.Persons, s.Reason, s.Parameters, s.Status, s.OpenedAt, s.UpdatedAt, uint64(1), s.SupersededBy)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
	const person = "person,region\n" + number + ",530927\n"
	if _, err := schema.LoadReference(t.Context(), conn, "persons", strings.NewReader(person), testKey, time.Now()); err != nil {
		t.Fatal(err)
	}
	return conn
}

func ids(list []schema.Suspect) string {
	var all []string
	for _, s := range list {
		all = append(all, s.ID)
	}
	return strings.Join(all, " ")
}

func TestRead(t *testing.T) {
	tests := []struct {
		name   string
		filter export.Filter
		want   string
	}{
		{"what is open, severe ones first", export.Filter{}, "s-clone s-resold s-travel"},
		{"everything", export.Filter{All: true}, "s-clone s-resold s-travel s-burst"},
		{"one detector", export.Filter{Detectors: []string{"resold_code"}}, "s-resold"},
		{"two detectors", export.Filter{Detectors: []string{"resold_code", "impossible_travel"}}, "s-resold s-travel"},
		{"one severity", export.Filter{Severities: []string{"medium"}}, "s-travel"},
		{"a province, in any place of the regions", export.Filter{Region: "53"}, "s-clone s-resold"},
		{"a county", export.Filter{Region: "640104"}, "s-clone s-travel"},
		{"changed since", export.Filter{Since: at("2026-02-05 00:00:00")}, "s-resold s-travel"},
		{"nothing", export.Filter{Detectors: []string{"no_such_detector"}}, ""},
	}
	for _, transport := range []string{"native", "http"} {
		stored := list()
		slices.Reverse(stored)
		conn := store(t, transport, stored)
		for _, tt := range tests {
			t.Run(tt.name+", over "+transport, func(t *testing.T) {
				got, err := export.Read(t.Context(), conn, tt.filter)
				if err != nil {
					t.Fatal(err)
				}
				if ids(got) != tt.want {
					t.Errorf("got %q, want %q", ids(got), tt.want)
				}
			})
		}
		t.Run("every column comes as it was stored, over "+transport, func(t *testing.T) {
			got, err := export.Read(t.Context(), conn, export.Filter{All: true})
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if g, w := toJSON(t, got[i]), toJSON(t, list()[i]); g != w {
					t.Errorf("got  %s\nwant %s", g, w)
				}
			}
		})
	}
}

func TestAFilterThatCannotMatchIsRefused(t *testing.T) {
	for _, f := range []export.Filter{
		{Severities: []string{"severe"}}, {Region: "沧源"}, {Region: "5309271"}, {Detectors: []string{"a,b"}}, {Detectors: []string{""}},
	} {
		if _, err := export.Read(t.Context(), nil, f); err == nil {
			t.Errorf("%+v: got no error", f)
		}
	}
}

func TestNames(t *testing.T) {
	for _, transport := range []string{"native", "http"} {
		conn := store(t, transport, list())
		for kind, file := range map[string]string{
			"orgs":    "org,name,region,type,status,status_from\nP1,旧名,530927,hospital,active,2024-01-01\nP1,新名,530927,hospital,active,2025-01-01\nP9,别家,,,,\n",
			"regions": "region,name\n530927,沧源佤族自治县\n",
		} {
			if _, err := schema.LoadReference(t.Context(), conn, kind, strings.NewReader(file), nil, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		var got export.Around
		if err := got.ReadNames(t.Context(), conn, list()); err != nil {
			t.Fatal(err)
		}
		if len(got.Names) != 1 || got.Names["P1"] != "新名" || got.Types["P1"] != "hospital" || got.OrgRegions["P1"] != "530927" {
			t.Errorf("got %v %v %v, want P1 新名 hospital 530927 alone", got.Names, got.Types, got.OrgRegions)
		}
		if got.Regions["530927"] != "沧源佤族自治县" {
			t.Errorf("got regions %v, want 530927 沧源佤族自治县", got.Regions)
		}
	}
}

func TestResolve(t *testing.T) {
	for _, transport := range []string{"native", "http"} {
		conn := store(t, transport, list())
		pseudonym := testKey.Pseudonym(number)
		t.Run("persons are shown by number wherever they stand, over "+transport, func(t *testing.T) {
			stranger := testKey.Pseudonym("somebody the vault does not know")
			got := list()
			got[0].Persons = []string{pseudonym, stranger}
			if err := export.Resolve(t.Context(), conn, got); err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), pseudonym) {
				t.Errorf("a pseudonym is left in %s", b)
			}
			if want := []string{number, stranger}; !slices.Equal(got[0].Persons, want) {
				t.Errorf("persons: got %q, want %q", got[0].Persons, want)
			}
			if got[2].EntityID != number {
				t.Errorf("entity_id: got %q, want %q", got[2].EntityID, number)
			}
			if want := "参保人 " + number + " 于 2026-02-01 09:00 在沧源结算"; got[2].Reason != want {
				t.Errorf("reason: got %q, want %q", got[2].Reason, want)
			}
		})
	}
}

// An officer may read the list and nothing else.
const officer = `<users><officer>
  <password></password>
  <networks><ip>127.0.0.1</ip></networks>
  <profile>default</profile>
  <quota>default</quota>
  <grants>
    <query>GRANT SELECT ON cases_native.suspects</query>
    <query>GRANT SELECT ON cases_http.suspects</query>
  </grants>
</officer></users>`

func TestWhoMayNotReadTheVaultIsToldWhichRightIsMissing(t *testing.T) {
	engine, err := local.StartEngine(t.Context(), local.EngineConfig{
		Dir: t.TempDir(), MemoryLimit: 1 << 30, ExtraConfig: officer, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	for transport, dsn := range map[string]string{"native": engine.NativeDSN(), "http": engine.HTTPDSN()} {
		t.Run("over "+transport, func(t *testing.T) {
			u, err := url.Parse(dsn)
			if err != nil {
				t.Fatal(err)
			}
			u.Path = "/cases_" + transport
			if _, err := schema.Apply(t.Context(), u.String()); err != nil {
				t.Fatal(err)
			}
			u.User = url.User("officer")
			got := list()
			err = export.Resolve(t.Context(), enginetest.Open(t, u.String()), got)
			if want := "GRANT SELECT ON cases_" + transport + ".person_vault TO officer"; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
			if toJSON(t, got[2]) != toJSON(t, list()[2]) {
				t.Error("the list was changed")
			}
		})
	}
}

func TestAGroupOfThousandsIsResolved(t *testing.T) {
	for _, transport := range []string{"native", "http"} {
		t.Run("over "+transport, func(t *testing.T) {
			conn := store(t, transport, nil)
			var numbers []string
			for i := range 2500 {
				numbers = append(numbers, fmt.Sprintf("530927%012d", i))
			}
			file := "person\n" + strings.Join(numbers, "\n") + "\n"
			if _, err := schema.LoadReference(t.Context(), conn, "persons", strings.NewReader(file), testKey, time.Now()); err != nil {
				t.Fatal(err)
			}
			group := []schema.Suspect{{EntityKind: "group"}}
			for _, n := range numbers {
				group[0].Persons = append(group[0].Persons, testKey.Pseudonym(n))
			}
			if err := export.Resolve(t.Context(), conn, group); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(group[0].Persons, numbers) {
				t.Errorf("got %q…, want %q…", group[0].Persons[:2], numbers[:2])
			}
		})
	}
}

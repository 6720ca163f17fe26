package schema_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/internal/enginetest"
	"yaosu/schema"
)

var loadTime = time.Date(2026, 3, 1, 9, 0, 0, 123456000, schema.Shanghai)

func referenceKey(t *testing.T) *schema.PersonKey {
	t.Helper()
	key, err := schema.NewPersonKey([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// cells selects columns as one text with bars between them.
func cells(columns, from string) string {
	var parts []string
	for _, c := range strings.Split(columns, ",") {
		parts = append(parts, "ifNull(toString("+c+"), '')")
	}
	return "SELECT concat(" + strings.Join(parts, ", '|', ") + ", '') FROM " + from
}

func load(t *testing.T, conn driver.Conn, kind, file string, at time.Time) schema.ReferenceReport {
	t.Helper()
	report, err := schema.LoadReference(t.Context(), conn, kind, strings.NewReader(file), referenceKey(t), at)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestLoadReference(t *testing.T) {
	p := func(number string) string { return referenceKey(t).Pseudonym(number) }
	tests := []struct {
		name, kind, file string
		query            string
		want             []string
		ignored          []string
		persons          int
	}{
		{
			name: "an institution with a history of two rows, columns in any order", kind: "orgs",
			file: "\ufeffname,org,type,region,status,status_from,status_to,lat,lon,remark\n" +
				"某药店,P1,pharmacy,420106,active,2024-01-01,2026-02-01,30.5,114.3,x\n" +
				"某药店,P1,pharmacy,420106,suspended,2026-02-02,,30.5,114.3,\n" +
				",,,,,,,,,\n" +
				"P2店,P2,,,,,,,,\n",
			query: cells("org,name,region,type,level,lat,lon,status,status_from,status_to,loaded", "orgs ORDER BY org, status"),
			want: []string{
				"P1|某药店|420106|pharmacy||30.5|114.3|active|2024-01-01|2026-02-01|2026-03-01 09:00:00.123456",
				"P1|某药店|420106|pharmacy||30.5|114.3|suspended|2026-02-02||2026-03-01 09:00:00.123456",
				"P2|P2店|||||||||2026-03-01 09:00:00.123456",
			},
			ignored: []string{"remark"},
		},
		{
			name: "drugs by 7 digits and by GTIN, which gets 14 digits", kind: "drugs",
			file: "product,drug,name,generic,pack_units,pack_level,max_price,max_days,trace_exempt\n" +
				"8271216,XA00BC760413,药品0,通用0,30,1,230.77,30,\n" +
				"6924561884074,XA01,药品1,,2.5,,,,是\n" +
				"96385074,XA02,,,,2,0,,FALSE\n",
			query: cells("product,drug,name,generic,pack_units,pack_level,max_price,max_days,trace_exempt", "drugs ORDER BY drug"),
			want: []string{
				"8271216|XA00BC760413|药品0|通用0|30|1|230.77|30|false",
				"06924561884074|XA01|药品1||2.5|0|||true",
				"00000096385074|XA02||||2|0||false",
			},
		},
		{
			name: "persons as pseudonyms", kind: "persons",
			file:    "person,region,household,died_on\n5309273460967357,530927,HH1,\n5309277293453178,,,2026-01-31\n",
			query:   cells("person,region,household,died_on", "persons ORDER BY region DESC"),
			want:    []string{p("5309273460967357") + "|530927|HH1|", p("5309277293453178") + "|||2026-01-31"},
			persons: 2,
		},
		{
			name: "stays in hospital, over and not over", kind: "inpatient",
			file: "person,org,admitted,discharged\n" +
				"51170,H1,2026-03-19T11:00:00+08:00,2026-03-24T04:00:00.5Z\n" +
				"51171,H1,2026-03-20 11:00:00,\n",
			query: cells("person,org,admitted,discharged", "inpatient ORDER BY admitted"),
			want: []string{
				p("51170") + "|H1|2026-03-19 11:00:00.000|2026-03-24 12:00:00.500",
				p("51171") + "|H1|2026-03-20 11:00:00.000|",
			},
			persons: 2,
		},
		{
			name: "regions, one without a centre", kind: "regions",
			file:  "region,name,lat,lon\n530927,沧源,23.15,99.25\n530902,临翔,,\n",
			query: cells("region,name,lat,lon", "regions ORDER BY region"),
			want:  []string{"530902|临翔||", "530927|沧源|23.15|99.25"},
		},
		{
			name: "packs by the key of their codes, in any form they are read", kind: "packs",
			file: "parent,child\n" +
				"83857930000879766660,(01)06924561884074(21)A1\n" +
				"83857930000879766661,]C183857930000879766662\n",
			query: cells("parent,child", "packs ORDER BY parent"),
			want:  []string{"83857930000879766660|010692456188407421A1", "83857930000879766661|83857930000879766662"},
		},
		{
			name: "exemptions, persons hidden by number and kept by pseudonym", kind: "exemptions",
			file: "detector,entity_kind,entity_id,from,to,author,reason\n" +
				"resold_code,code,83857930000879766660,2026-01-01,2026-12-31,王,\"召回, 已核\"\n" +
				",person,5309273460967357,,,李,透析\n" +
				",person," + p("77") + ",,,李,已核\n" +
				"card_burst,device,P1/POS1,,,李,集体接种\n",
			query: cells("detector,entity_kind,entity_id,`from`,`to`,author,reason", "exemptions ORDER BY detector DESC, reason DESC"),
			want: []string{
				"resold_code|code|83857930000879766660|2026-01-01|2026-12-31|王|召回, 已核",
				"card_burst|device|P1/POS1|||李|集体接种",
				"|person|" + p("5309273460967357") + "|||李|透析",
				"|person|" + p("77") + "|||李|已核",
			},
			persons: 1,
		},
	}
	for _, transport := range []string{"native", "http"} {
		conn := newDatabase(t, transport)
		for _, tt := range tests {
			t.Run(tt.name+", over "+transport, func(t *testing.T) {
				report := load(t, conn, tt.kind, tt.file, loadTime)
				want := schema.ReferenceReport{Kind: tt.kind, Rows: len(tt.want), Persons: tt.persons, Ignored: tt.ignored, Loaded: loadTime}
				if fmt.Sprint(report) != fmt.Sprint(want) {
					t.Errorf("report: got %v, want %v", report, want)
				}
				if got := enginetest.Column(t, conn, tt.query); !slices.Equal(got, tt.want) {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
				}
			})
		}
		t.Run("the vault alone has the numbers, over "+transport, func(t *testing.T) {
			got := enginetest.Column(t, conn, cells("person,number", "person_vault FINAL ORDER BY number"))
			var want []string
			for _, number := range []string{"51170", "51171", "5309273460967357", "5309277293453178"} {
				want = append(want, p(number)+"|"+number)
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			for _, view := range []string{"persons", "inpatient", "exemptions"} {
				rows := enginetest.Column(t, conn, "SELECT toString(tuple(*)) FROM reference_"+view)
				if text := strings.Join(rows, "\n"); strings.Contains(text, "53092734") || strings.Contains(text, "5117") {
					t.Errorf("%s holds a number:\n%s", view, text)
				}
			}
		})
	}
}

func TestTheNewestLoadOfAKeyCounts(t *testing.T) {
	conn := newDatabase(t, "native")
	later := loadTime.Add(time.Hour)

	t.Run("a drug loaded again", func(t *testing.T) {
		load(t, conn, "drugs", "product,drug,max_price\n8271216,XA,10\n8271217,XB,20\n", loadTime)
		load(t, conn, "drugs", "product,drug,max_price\n8271216,XA,11\n", later)
		load(t, conn, "drugs", "product,drug,max_price\n8271217,XB,19\n", loadTime.Add(-time.Hour))
		got := enginetest.Column(t, conn, cells("product,max_price", "drugs ORDER BY product"))
		if want := []string{"8271216|11", "8271217|20"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("the later of two lines of one file", func(t *testing.T) {
		load(t, conn, "regions", "region,name\n530927,旧\n530927,新\n", loadTime)
		if got, want := enginetest.Column(t, conn, cells("name", "regions")), []string{"新"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("an institution's history is replaced as a whole, that of others stays", func(t *testing.T) {
		load(t, conn, "orgs", "org,name,status,status_from,status_to\nP1,甲,active,2024-01-01,2025-01-01\nP1,甲,suspended,2025-01-02,\nP2,乙,active,,\n", loadTime)
		load(t, conn, "orgs", "org,name,status,status_from,status_to\nP1,甲,active,2024-01-01,\n", later)
		got := enginetest.Column(t, conn, cells("org,status,status_from,status_to", "orgs ORDER BY org"))
		if want := []string{"P1|active|2024-01-01|", "P2|active||"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("the same file twice changes nothing", func(t *testing.T) {
		const file = "person,region\n5309273460967357,530927\n5309277293453178,530927\n"
		load(t, conn, "persons", file, loadTime)
		before := enginetest.Column(t, conn, cells("person,region,loaded", "persons ORDER BY person"))
		load(t, conn, "persons", file, loadTime)
		if after := enginetest.Column(t, conn, cells("person,region,loaded", "persons ORDER BY person")); !slices.Equal(after, before) || len(after) != 2 {
			t.Errorf("got %q, want %q", after, before)
		}
	})
}

func TestAFileWithAFaultLoadsNothing(t *testing.T) {
	conn := newDatabase(t, "native")
	tests := []struct {
		name, kind, file string
		want             []string // all must be in the error
	}{
		{"a status nobody knows", "orgs", "org,status\nP1,active\nP2,closed\n", []string{`line 3, column status: "closed": want one of active, suspended, ended`}},
		{"a type nobody knows", "orgs", "org,type\nP1,shop\n", []string{`line 2, column type: "shop": want one of pharmacy, hospital`}},
		{"an institution's number with a blank", "orgs", "org\nP 1\n", []string{`line 2, column org: "P 1"`}},
		{"a latitude beyond the pole", "orgs", "org,lat,lon\nP1,90.1,1\n", []string{`column lat: "90.1": want a number from -90 to 90`}},
		{"a longitude beyond the date line", "orgs", "org,lat,lon\nP1,9,-181\n", []string{`column lon: "-181"`}},
		{"a latitude alone", "orgs", "org,lat,lon\nP1,30,\n", []string{"column lat: give both lat and lon"}},
		{"a day that is not in the calendar", "orgs", "org,status,status_from\nP1,active,2026-02-30\n", []string{`column status_from: "2026-02-30": want a date as 2026-01-05`}},
		{"a date with slashes", "orgs", "org,status,status_from\nP1,active,2026/2/3\n", []string{`column status_from: "2026/2/3"`}},
		{"a status that ends before it begins", "orgs", "org,status,status_from,status_to\nP1,active,2026-02-03,2026-02-02\n", []string{"column status_to: lies before status_from"}},
		{"dates of no status", "orgs", "org,status,status_from\nP1,,2026-02-03\n", []string{"column status: is empty, but its dates are given"}},
		{"a GTIN with a wrong check digit", "drugs", "product\n6924561884075\n", []string{`line 2, column product: "6924561884075": the check digit`}},
		{"a product of six digits", "drugs", "product\n827121\n", []string{`column product: "827121": want 7 digits`}},
		{"a number with a comma", "drugs", "product,max_price\n8271216,\"1,5\"\n", []string{`column max_price: "1,5": want a number`}},
		{"a negative price", "drugs", "product,max_price\n8271216,-1\n", []string{`column max_price: "-1": want a number not below 0`}},
		{"a pack of no units", "drugs", "product,pack_units\n8271216,0\n", []string{`column pack_units: "0": want a number above 0`}},
		{"half a pack level", "drugs", "product,pack_level\n8271216,1.5\n", []string{`column pack_level: "1.5": want a whole number`}},
		{"neither yes nor no", "drugs", "product,trace_exempt\n8271216,maybe\n", []string{`column trace_exempt: "maybe"`}},
		{"a person left out", "persons", "person,region\n,530927\n", []string{"line 2, column person: is empty"}},
		{"a county of five digits", "persons", "person,region\n1,53092\n", []string{`column region: want 6 digits`}},
		{"a person number that a spreadsheet rounded", "persons", "person\n5.11702E+15\n", []string{"column person: was rounded by a spreadsheet"}},
		{"a time without a time of day", "inpatient", "person,org,admitted\n1,H1,2026-03-19\n", []string{`column admitted: want a time`}},
		{"discharged before admitted", "inpatient", "person,org,admitted,discharged\n1,H1,2026-03-19 10:00:00,2026-03-19 09:00:00\n", []string{"column discharged: lies before admitted"}},
		{"a region without a number", "regions", "region,name\n沧源,530927\n", []string{`column region: "沧源": want 6 digits`}},
		{"a pack that is no item code", "packs", "parent,child\n83857930000879766660,6924561884074\n", []string{`column child: "6924561884074": is no item code (product)`}},
		{"a pack in itself", "packs", "parent,child\n83857930000879766660,83857930000879766660\n", []string{"column child: is the same code as its parent"}},
		{"an exemption nobody answers for", "exemptions", "detector,entity_kind,entity_id,author,reason\nresold_code,code,8,,\n", []string{"column author: is empty", "column reason: is empty"}},
		{"an exemption of no known kind", "exemptions", "detector,entity_kind,entity_id,author,reason\n,shop,8,a,b\n", []string{`column entity_kind: want one of`}},
		{"a row that is cut off", "regions", "region,name\n530927,a\n530902\n", []string{"line 3: the row has 1 cells, the header 2"}},
		{"a row with a cell too many", "regions", "region,name\n530927,a,b\n", []string{"line 2: the row has 3 cells, the header 2"}},
		{"a quotation mark inside a cell", "regions", "region,name\n530927,a\"b\n530902,b\n", []string{"line 2: bare"}},
		{"Chinese that is not UTF-8", "regions", "region,name\n530927,\xb2\xd7\xd4\xb4\n", []string{"line 2, column name: is not UTF-8 (is the file GBK?)"}},
		{"a header that is not UTF-8", "regions", "region,\xb2\xd7\xd4\xb4\n530927,a\n", []string{"not UTF-8"}},
		{"a column that is missing", "packs", "parent,kid\n1,2\n", []string{"the header lacks the column child"}},
		{"columns parted by semicolons", "packs", "parent;child\n1;2\n", []string{"the header lacks the column parent, child; columns must be parted by commas"}},
		{"a column that is there twice", "regions", "region,name,NAME\n530927,a,b\n", []string{"the column name is there twice"}},
		{"an empty file", "regions", "", []string{"the file is empty"}},
		{"a workbook", "regions", "PK\x03\x04zip", []string{"xlsx"}},
		{"a kind nobody knows", "shops", "org\n", []string{`no kind "shops": want one of orgs, drugs`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := schema.LoadReference(t.Context(), conn, tt.kind, strings.NewReader(tt.file), referenceKey(t), loadTime)
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
		})
	}
	for _, k := range schema.ReferenceKinds() {
		if got := enginetest.Column(t, conn, cells("count()", "reference_"+k.Name)); got[0] != "0" {
			t.Errorf("%s has %s rows, want none", k.Name, got[0])
		}
	}
	if got := enginetest.Column(t, conn, cells("count()", "person_vault")); got[0] != "0" {
		t.Errorf("the vault has %s rows, want none", got[0])
	}

	t.Run("twenty faults are listed and the others counted", func(t *testing.T) {
		file := "region\n" + strings.Repeat("x\n", 25) + "530927\n"
		_, err := schema.LoadReference(t.Context(), conn, "regions", strings.NewReader(file), nil, loadTime)
		var refused *schema.ReferenceError
		if !errors.As(err, &refused) {
			t.Fatalf("got %v, want a ReferenceError", err)
		}
		if refused.Total != 25 || len(refused.Problems) != 20 || refused.Problems[19].Line != 21 {
			t.Errorf("got %d faults and %d listed, want 25 and 20, the last of line 21", refused.Total, len(refused.Problems))
		}
		if !strings.HasSuffix(err.Error(), "and 5 more") {
			t.Errorf("got %q", err)
		}
	})
	t.Run("no error quotes a person's number", func(t *testing.T) {
		const number = "530927346096735799"
		for kind, file := range map[string]string{
			"persons":    "person,region\n" + number + strings.Repeat("9", 60) + ",1\n",
			"exemptions": "detector,entity_kind,entity_id,author,reason\n,person," + number + ",,b\n",
		} {
			_, err := schema.LoadReference(t.Context(), conn, kind, strings.NewReader(file), referenceKey(t), loadTime)
			if err == nil || strings.Contains(err.Error(), number) {
				t.Errorf("%s: got %v", kind, err)
			}
		}
	})
	t.Run("persons need the key, exemptions only where they name one", func(t *testing.T) {
		const header = "detector,entity_kind,entity_id,author,reason\n"
		for file, kind := range map[string]string{"person\n1\n": "persons", header + ",person,1,a,b\n": "exemptions"} {
			_, err := schema.LoadReference(t.Context(), conn, kind, strings.NewReader(file), nil, loadTime)
			if err == nil || !strings.Contains(err.Error(), "person key") {
				t.Errorf("%s: got %v, want an error that names the person key", kind, err)
			}
		}
		if _, err := schema.LoadReference(t.Context(), conn, "exemptions", strings.NewReader(header+",org,P1,a,b\n"), nil, loadTime); err != nil {
			t.Error(err)
		}
	})
}

func TestAFileOfMoreThanOneBlockLoadsWhole(t *testing.T) {
	conn := newDatabase(t, "native")
	const rows = 120_001
	var file strings.Builder
	file.WriteString("person,region,household,died_on\n")
	for i := range rows {
		fmt.Fprintf(&file, "53092%011d,530927,HH%d,\n", i, i/3)
	}
	report := load(t, conn, "persons", file.String(), loadTime)
	if report.Rows != rows || report.Persons != rows {
		t.Errorf("got %d rows and %d persons, want %d", report.Rows, report.Persons, rows)
	}
	got := enginetest.Column(t, conn, cells("count(),uniqExact(person),uniqExact(household),uniqExact(loaded)", "persons"))
	if want := fmt.Sprintf("%d|%d|%d|1", rows, rows, (rows+2)/3); got[0] != want {
		t.Errorf("got %s, want %s", got[0], want)
	}
}

// A larger town may lie beside this repository; the pattern is relative to here.
const largeTown = "../../*/samples/town"

func TestTheFilesOfATownLoad(t *testing.T) {
	conn := newDatabase(t, "http")
	files := map[string]string{
		"orgs":    "org,name,region,type,level,lat,lon,status,status_from,status_to\nH1,沧源医院,530927,hospital,2,23.16,99.20,active,2024-01-01,\n",
		"drugs":   "product,drug,name,generic,pack_units,pack_level,max_price,max_days\n8271216,XA00BC760413,药品0,通用0,30,1,230.77,30\n",
		"persons": "person,region,household,died_on\n5309273460967357,530927,HH5309270,\n",
	}
	dirs, err := filepath.Glob(largeTown)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		for _, k := range schema.ReferenceKinds() {
			b, err := os.ReadFile(filepath.Join(dir, k.Name+".csv"))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			files[k.Name] = string(b)
		}
	}
	for kind, file := range files {
		report := load(t, conn, kind, file, loadTime)
		if want := strings.Count(strings.TrimSpace(file), "\n"); report.Rows != want || len(report.Ignored) > 0 {
			t.Errorf("%s: got %d rows, ignored %q, want %d rows and none ignored", kind, report.Rows, report.Ignored, want)
		}
	}
}

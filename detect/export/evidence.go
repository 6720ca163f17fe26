package export

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/schema"
)

//go:embed evidence.sql
var evidenceSQL string

//go:embed evidence_anywhere.sql
var evidenceAnywhereSQL string

// Line is one event of the evidence of a suspect, for one of its codes. An event
// that is not in the table any more has its org and id alone.
type Line struct {
	Time        time.Time
	Sent        time.Time // when it was uploaded
	Org         string
	Region      string
	Kind        string
	Code        string // key, or as it was read where it has none
	Scheme      string // form of the code, empty for none
	Product     string // what the code says it is
	ProductName string
	ProductDrug string // catalogue code of Product
	Drug        string // catalogue code billed
	DrugName    string
	Lot         string
	Expires     string  // YYYY-MM-DD, empty for not known
	Quantity    float64 // this code's share
	Split       bool
	Price       float64
	Paid        float64 // this code's share of what the fund paid, yuan
	Reckoned    bool    // Paid is price × quantity, as the fund's payment was not uploaded
	Days        float64 // of supply, 0 for not known
	Pay         string
	Person      string // pseudonym unless resolved
	Credential  string
	Setting     string
	Rx          string
	Doctor      string // name, else number
	Pharmacist  string // name, else number
	Operator    string
	Supplier    string
	Doc         string // receipt or delivery note
	Batch       string // the institution's upload number
	Settlement  string
	Reverses    string // event_id that is taken back
	EventID     string
	Device      string
}

// evidenceAtOnce is how many suspects, and evidenceEvents about how many of their
// events, are read at a time.
const (
	evidenceAtOnce = 500
	evidenceEvents = 50_000
)

// Evidence reads the events that prove the suspects of list, and calls each for
// every suspect in the order of the list, with its lines in order of time. With
// resolve persons are shown by number, as by Resolve.
func Evidence(ctx context.Context, conn driver.Conn, list []schema.Suspect, resolve bool, each func(s *schema.Suspect, lines []Line) error) error {
	for len(list) > 0 {
		n, events := 0, 0
		for n < len(list) && n < evidenceAtOnce && (n == 0 || events+len(list[n].Events) <= evidenceEvents) {
			events += len(list[n].Events)
			n++
		}
		if err := evidenceOf(ctx, conn, list[:n], resolve, each); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func evidenceOf(ctx context.Context, conn driver.Conn, list []schema.Suspect, resolve bool, each func(s *schema.Suspect, lines []Line) error) error {
	lines := make([][]Line, len(list))
	missing := make([]map[string]bool, len(list)) // events nothing was found of
	codes := make([]map[string]bool, len(list))
	position := map[string]int{}
	for i := range list {
		position[list[i].ID] = i
		missing[i], codes[i] = set(list[i].Events), set(list[i].Codes)
	}
	// An event may have codes that are not the suspect's; they prove nothing.
	err := readEvidence(ctx, conn, evidenceSQL, list, func(suspect, key string, l Line) {
		i := position[suspect]
		if codes[i][key] {
			lines[i] = append(lines[i], l)
			delete(missing[i], l.Org+"/"+l.EventID)
		}
	})
	if err != nil {
		return err
	}
	var rest []schema.Suspect
	for i := range list {
		if len(missing[i]) > 0 {
			rest = append(rest, list[i])
		}
	}
	if len(rest) > 0 {
		found := make([][]Line, len(list))
		err := readEvidence(ctx, conn, evidenceAnywhereSQL, rest, func(suspect, _ string, l Line) {
			if i := position[suspect]; missing[i][l.Org+"/"+l.EventID] {
				found[i] = append(found[i], l)
			}
		})
		if err != nil {
			return err
		}
		for i := range list {
			for _, l := range found[i] {
				delete(missing[i], l.Org+"/"+l.EventID)
			}
			lines[i] = append(lines[i], found[i]...)
			for event := range missing[i] {
				org, id, _ := strings.Cut(event, "/")
				lines[i] = append(lines[i], Line{Org: org, EventID: id})
			}
		}
	}
	if resolve {
		if err := resolveLines(ctx, conn, lines); err != nil {
			return err
		}
	}
	for i := range list {
		slices.SortFunc(lines[i], func(a, b Line) int {
			return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Org, b.Org), cmp.Compare(a.EventID, b.EventID), cmp.Compare(a.Code, b.Code))
		})
		if err := each(&list[i], lines[i]); err != nil {
			return err
		}
		lines[i] = nil
	}
	return nil
}

func readEvidence(ctx context.Context, conn driver.Conn, query string, list []schema.Suspect, add func(suspect, key string, l Line)) error {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"ids": strings.Join(ids, ",")}))
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return fmt.Errorf("read the evidence: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var l Line
		var suspect, key string
		if err := rows.Scan(&suspect, &l.Time, &l.Sent, &l.Org, &l.Region, &l.Kind, &key, &l.Code, &l.Scheme, &l.Product, &l.ProductName, &l.ProductDrug,
			&l.Drug, &l.DrugName, &l.Lot, &l.Expires, &l.Quantity, &l.Split, &l.Price, &l.Paid, &l.Reckoned, &l.Days, &l.Pay, &l.Person, &l.Credential,
			&l.Setting, &l.Rx, &l.Doctor, &l.Pharmacist, &l.Operator, &l.Supplier, &l.Doc, &l.Batch, &l.Settlement, &l.Reverses, &l.EventID, &l.Device); err != nil {
			return fmt.Errorf("read the evidence: %w", err)
		}
		l.Time, l.Sent = l.Time.In(schema.Shanghai), l.Sent.In(schema.Shanghai)
		if key != "" {
			l.Code = key
		}
		add(suspect, key, l)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the evidence: %w", err)
	}
	return nil
}

func resolveLines(ctx context.Context, conn driver.Conn, lines [][]Line) error {
	people := map[string]struct{}{}
	for _, some := range lines {
		for _, l := range some {
			if l.Person != "" {
				people[l.Person] = struct{}{}
			}
		}
	}
	numbers, err := lookUp(ctx, conn, numbersSQL, "persons", people)
	if err != nil {
		return fmt.Errorf("read the vault of persons: %w", err)
	}
	for _, some := range lines {
		for i := range some {
			some[i].Person = number(numbers, some[i].Person)
		}
	}
	return nil
}

func set(list []string) map[string]bool {
	s := make(map[string]bool, len(list))
	for _, v := range list {
		s[v] = true
	}
	return s
}

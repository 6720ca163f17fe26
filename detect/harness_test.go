package detect_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/tools/txtar"

	"yaosu/detect"
	"yaosu/internal/enginetest"
	"yaosu/schema"
)

// The harness of all rules. A file in cases.txtar is one case; its name is a
// sentence, its lines are
//
//	KIND MM-DDTHH:MM[:SS] ORG CODES [field=value …]   a scan of 2026; CODES by comma, - for none
//	orgs|drugs|persons|inpatient|regions|packs|exemptions column=value …   reference data
//	want ENTITY   (or: want nothing)                  typed by a person, never updated by a machine;
//	                                                  A@2026-01 is A in that month, A in any; a group
//	                                                  by its members, with commas
//	says TEXT                                          the reasons must hold this
//	never TEXT                                         the reasons must not
//	pays YUAN                                          the amounts of the suspects make this together
//	repeat N step=DURATION LINE                        LINE N times, each a step later; a * in it is the number, from 1
//
// Only the columns that matter are written: a sale is insured, with a person, a
// settlement and a price of its own unless the line says otherwise (pay=self,
// person=-). Names are the case's own: A is an org, box1 a box of product P,
// box1@Q one of product Q, gs1:box1 and gs1b:box1 two readings of one GS1 box,
// gs1-260131:box1 one that says when it expires, own:box1 a box with a maker's own code, billed as the drug D, =TEXT a code as
// it stands. id=NAME gives a scan its event_id. A repeat may hold a repeat: its *
// becomes 1_1, 1_2 and so on. Everything is received as December begins: later
// times are wrong clocks.
type ruleCase struct {
	rule, name string
	tag        string // makes names of this case its own
	scans      []schema.Scan
	reference  map[string][]map[string]string // kind to rows, by column
	want       []string
	says       []string
	never      []string
	pays       string            // yuan, empty for not asked
	names      map[string]string // real entity to the name in the case
}

func (c *ruleCase) org(name string) string {
	if name == "" {
		return ""
	}
	return c.tag + name
}

func (c *ruleCase) digits(n int, name string) string {
	h := fnv.New64a()
	fmt.Fprint(h, c.tag, "/", name)
	return fmt.Sprintf("%020d", h.Sum64())[20-n:]
}

func (c *ruleCase) product(name string) string { return "8" + c.digits(6, "product "+name) }

func (c *ruleCase) drug(name string) string {
	if name == "" {
		return ""
	}
	return "X" + c.tag + name
}

// code returns what a scanner reads for a name, and the key of it.
func (c *ruleCase) code(name string) (raw, key string) {
	if literal, ok := strings.CutPrefix(name, "="); ok {
		return literal, literal
	}
	gtin, _ := schema.NormalGTIN("06901234567892")
	if box, ok := strings.CutPrefix(name, "gs1:"); ok {
		serial := c.tag + box
		return "01" + gtin + "17281231" + "10L1\x1d21" + serial, "01" + gtin + "21" + serial
	}
	if box, ok := strings.CutPrefix(name, "gs1b:"); ok {
		serial := c.tag + box
		return "(01)" + gtin + "(21)" + serial + "(17)281231(10)L1", "01" + gtin + "21" + serial
	}
	if rest, ok := strings.CutPrefix(name, "gs1-"); ok {
		expires, box, _ := strings.Cut(rest, ":")
		serial := c.tag + box
		return "01" + gtin + "17" + expires + "21" + serial, "01" + gtin + "21" + serial
	}
	if box, ok := strings.CutPrefix(name, "own:"); ok {
		raw = "OWN-" + c.digits(10, "own "+box)
		return raw, c.drug("D") + " " + raw
	}
	box, product, found := strings.Cut(name, "@")
	if !found {
		product = "P"
	}
	raw = c.product(product) + c.digits(13, "box "+box)
	return raw, raw
}

// entity is the real id behind a wanted name: A, A/box1, A/POS1, A/D/L1, box1 or p1;
// of a group the members, A,B,C or p1,p2,p3.
func (c *ruleCase) entity(key *schema.PersonKey, rule detect.Rule, name string) string {
	kind := rule.Entity
	switch org, rest, _ := strings.Cut(name, "/"); {
	case kind == "group":
		var members []string
		for _, member := range strings.Split(name, ",") {
			if rule.Refine == "ring" {
				members = append(members, c.org(member))
			} else {
				members = append(members, key.Pseudonym(c.tag+member))
			}
		}
		return group(members)
	case kind == "person":
		return key.Pseudonym(c.tag + name)
	case kind == "org", kind == "device":
		return strings.TrimSuffix(c.org(org)+"/"+rest, "/")
	case kind == "lot":
		drug, lot, _ := strings.Cut(rest, "/")
		return c.org(org) + "/" + c.drug(drug) + "/" + lot
	case rest != "":
		_, code := c.code(rest)
		return c.org(org) + "/" + code
	}
	_, code := c.code(name)
	return code
}

// entityOf is what a suspect is about: its entity_id, of a group the members.
func entityOf(rule detect.Rule, s schema.Suspect) string {
	switch {
	case rule.Entity != "group":
		return s.EntityID
	case rule.Refine == "ring":
		return group(s.Orgs)
	}
	return group(s.Persons)
}

// group is the members, each once, sorted.
func group(members []string) string {
	members = slices.Clone(members)
	slices.Sort(members)
	return strings.Join(slices.Compact(members), " ")
}

func caseTime(t *testing.T, text string) time.Time {
	t.Helper()
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02T15:04:05.000"} {
		if at, err := time.ParseInLocation(layout, "2026-"+text, schema.Shanghai); err == nil {
			return at
		}
	}
	t.Fatalf("time %q: want MM-DDTHH:MM", text)
	return time.Time{}
}

// addScans adds what one line says: a scan, or those of a repeat, all later by
// the given time.
func (c *ruleCase) addScans(t *testing.T, words []string, later time.Duration) {
	t.Helper()
	if words[0] != "repeat" {
		s := c.scan(t, words, len(c.scans))
		s.Time = s.Time.Add(later)
		if !s.Sent.IsZero() {
			s.Sent = s.Sent.Add(later)
		}
		c.scans = append(c.scans, s)
		return
	}
	usage := func() {
		t.Helper()
		t.Fatalf("%s: line %q: want repeat N step=DURATION LINE", c.name, strings.Join(words, " "))
	}
	if len(words) < 4 {
		usage()
	}
	times, err := strconv.Atoi(words[1])
	if err != nil {
		usage()
	}
	text, _ := strings.CutPrefix(words[2], "step=")
	step, err := time.ParseDuration(text)
	if err != nil {
		usage()
	}
	for i := range times {
		number := strconv.Itoa(i + 1)
		if words[3] == "repeat" {
			number += "_*"
		}
		line := make([]string, len(words[3:]))
		for k, word := range words[3:] {
			line[k] = strings.ReplaceAll(word, "*", number)
		}
		c.addScans(t, line, later+time.Duration(i)*step)
	}
}

func (c *ruleCase) scan(t *testing.T, words []string, n int) schema.Scan {
	t.Helper()
	line := strings.Join(words, " ")
	if len(words) < 4 {
		t.Fatalf("%s: line %q: want KIND TIME ORG CODES", c.name, line)
	}
	fields := map[string]string{}
	for _, word := range words[4:] {
		name, value, found := strings.Cut(word, "=")
		if !found {
			t.Fatalf("%s: %q is not field=value", c.name, word)
		}
		fields[name] = value
	}
	take := func(name, otherwise string) string {
		value, given := fields[name]
		delete(fields, name)
		if !given {
			return otherwise
		}
		return strings.TrimPrefix(value, "-")
	}
	own := func(value string) string {
		if value == "" {
			return ""
		}
		return c.tag + value
	}
	s := schema.Scan{
		Kind:    schema.Kind(words[0]),
		Time:    caseTime(t, words[1]),
		Org:     c.org(words[2]),
		Region:  take("region", "420106"),
		EventID: take("id", fmt.Sprintf("scan%d", n)),
	}
	if !slices.Contains(schema.Kinds, s.Kind) {
		t.Fatalf("%s: %q is no kind", c.name, words[0])
	}
	for _, name := range strings.Split(words[3], ",") {
		if name != "-" {
			raw, _ := c.code(name)
			s.Codes = append(s.Codes, raw)
		}
	}
	person, settlement, price := "", "", ""
	if s.Kind == schema.Sale && fields["pay"] != schema.PaySelf {
		person, settlement, price = fmt.Sprintf("someone%d", n), fmt.Sprintf("settled%d", n), "10"
	}
	s.Pay = take("pay", "")
	s.Person = own(take("person", person))
	s.Settlement = own(take("settlement", settlement))
	s.BatchNo = own(take("batch", ""))
	if s.Kind != schema.Void {
		s.Drug = c.drug(take("drug", "D"))
		s.Price = number(t, take("price", price))
	}
	s.Quantity = number(t, take("quantity", ""))
	s.Days = number(t, take("days", ""))
	s.FundPay = number(t, take("fund_pay", ""))
	s.Split = take("split", "") == "true"
	s.Device = take("device", "")
	s.Setting = take("setting", "")
	s.Lot = take("lot", "")
	if expires := take("expires", ""); expires != "" {
		day, err := time.Parse(time.DateOnly, expires)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		s.Expires = day
	}
	s.Reverses = take("reverses", "")
	if sent := take("sent", ""); sent != "" {
		s.Sent = caseTime(t, sent)
	}
	if kinds := take("void_kind", ""); kinds != "" {
		for _, kind := range strings.Split(kinds, ",") {
			s.VoidKinds = append(s.VoidKinds, schema.Kind(kind))
		}
	}
	for name := range fields {
		t.Fatalf("%s: field %s is not known here", c.name, name)
	}
	return s
}

func number(t *testing.T, text string) schema.Number {
	t.Helper()
	if text == "" {
		return schema.Number{}
	}
	var f float64
	if _, err := fmt.Sscan(text, &f); err != nil {
		t.Fatalf("number %q: %v", text, err)
	}
	return schema.Number{Micro: int64(f * 1e6), Known: true}
}

// referenceRow keeps column=value words; names become the case's own.
func (c *ruleCase) referenceRow(t *testing.T, kind string, words []string) {
	t.Helper()
	row := map[string]string{}
	for _, word := range words {
		column, value, _ := strings.Cut(word, "=")
		switch column {
		case "org":
			value = c.org(value)
		case "person", "household":
			value = c.tag + value
		case "drug":
			value = c.drug(value)
		case "product":
			value = c.product(value)
		case "parent", "child":
			value, _ = c.code(value)
		}
		row[column] = value
	}
	if kind == "exemptions" {
		t.Fatalf("%s: exemptions are tested by their own test", c.name)
	}
	c.reference[kind] = append(c.reference[kind], row)
}

// loadReference loads what all cases say, one file a kind.
func loadReference(t *testing.T, conn driver.Conn, key *schema.PersonKey, cases []*ruleCase) {
	t.Helper()
	for _, kind := range []string{"orgs", "drugs", "persons", "inpatient", "regions", "packs"} {
		columns := map[string]bool{}
		var rows []map[string]string
		for _, c := range cases {
			for _, row := range c.reference[kind] {
				rows = append(rows, row)
				for column := range row {
					columns[column] = true
				}
			}
		}
		if len(rows) == 0 {
			continue
		}
		header := slices.Sorted(maps.Keys(columns))
		var file strings.Builder
		fmt.Fprintln(&file, strings.Join(header, ","))
		for _, row := range rows {
			line := make([]string, len(header))
			for i, column := range header {
				line[i] = row[column]
			}
			fmt.Fprintln(&file, strings.Join(line, ","))
		}
		if _, err := schema.LoadReference(context.Background(), conn, kind, strings.NewReader(file.String()), key, received); err != nil {
			t.Fatal(err)
		}
	}
}

func readCases(t *testing.T, rules []detect.Rule) []*ruleCase {
	t.Helper()
	var all []*ruleCase
	for _, rule := range rules {
		archive, err := txtar.ParseFile(path.Join("rules", rule.ID, "cases.txtar"))
		if err != nil {
			t.Fatal(err)
		}
		fires, silent := 0, 0
		for _, file := range archive.Files {
			c := &ruleCase{
				rule: rule.ID, name: rule.ID + ": " + file.Name, tag: fmt.Sprintf("K%03d", len(all)),
				reference: map[string][]map[string]string{}, names: map[string]string{},
			}
			decided := false
			for line := range strings.Lines(string(file.Data)) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), "# ")
				words := strings.Fields(line)
				if len(words) == 0 {
					continue
				}
				switch words[0] {
				case "want":
					decided = true
					if rest := strings.TrimSpace(strings.TrimPrefix(line, "want")); rest != "nothing" {
						c.want = append(c.want, strings.Fields(rest)...)
					}
				case "pays":
					c.pays = words[1]
				case "says":
					c.says = append(c.says, strings.TrimSpace(strings.TrimPrefix(line, "says")))
				case "never":
					c.never = append(c.never, strings.TrimSpace(strings.TrimPrefix(line, "never")))
				case "orgs", "drugs", "persons", "inpatient", "regions", "packs", "exemptions":
					c.referenceRow(t, words[0], words[1:])
				default:
					c.addScans(t, words, 0)
				}
			}
			if !decided {
				t.Fatalf("%s: no want line", c.name)
			}
			if len(c.want) > 0 {
				fires++
			} else {
				silent++
			}
			slices.Sort(c.want)
			all = append(all, c)
		}
		if fires == 0 || silent == 0 {
			t.Errorf("%s: %d firing and %d silent cases, want at least one of each", rule.ID, fires, silent)
		}
	}
	return all
}

// received is when every scan of a test reached the stream.
var received = time.Date(2026, 12, 1, 0, 0, 0, 0, schema.Shanghai)

func send(t testing.TB, conn *schema.Conn, key *schema.PersonKey, scans []schema.Scan) {
	t.Helper()
	block := schema.NewBlock(schema.NewPeople(key), schema.NewClassifier(nil))
	for i := range scans {
		block.Add(&scans[i], uint64(i+1), received)
	}
	if err := block.Send(context.Background(), conn, ""); err != nil {
		t.Fatal(err)
	}
}

func newDatabase(t testing.TB, transport string) *schema.Conn {
	t.Helper()
	return enginetest.Schema(t, enginetest.Database(t, transport))
}

func testKey(t testing.TB) *schema.PersonKey {
	t.Helper()
	key, err := schema.NewPersonKey([]byte("a key for tests, thirty-two bytes"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pass(t *testing.T, cfg detect.Config) detect.Report {
	t.Helper()
	report, err := detect.Once(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// openSuspects returns what stands, by detector.
func openSuspects(t *testing.T, conn driver.Conn) map[string][]schema.Suspect {
	t.Helper()
	rows, err := conn.Query(context.Background(), "SELECT detector, entity_id, period, amount, orgs, persons, reason FROM suspects WHERE status = 'open' ORDER BY entity_id, period")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	found := map[string][]schema.Suspect{}
	for rows.Next() {
		var s schema.Suspect
		if err := rows.Scan(&s.Detector, &s.EntityID, &s.Period, &s.Amount, &s.Orgs, &s.Persons, &s.Reason); err != nil {
			t.Fatal(err)
		}
		found[s.Detector] = append(found[s.Detector], s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

// bystanders are honest sales at the orgs of the scans: other boxes, other
// persons, other devices (one for each scan, or they would be a burst).
func bystanders(scans []schema.Scan, but map[string]bool) []schema.Scan {
	var more []schema.Scan
	for i, s := range scans {
		if but[s.Org] {
			continue
		}
		for j := range 3 {
			code := fmt.Sprintf("8999999%013d", i*10+j)
			more = append(more,
				schema.Scan{EventID: "bought " + code, Kind: schema.Purchase, Time: s.Time.Add(-240 * time.Hour), Org: s.Org, Region: s.Region, Codes: []string{code}, Drug: "XHONEST"},
				schema.Scan{EventID: "sold " + code, Kind: schema.Sale, Time: s.Time.Add(time.Duration(j-1) * time.Hour), Org: s.Org, Region: s.Region, Codes: []string{code}, Drug: "XHONEST", Device: fmt.Sprintf("BYSTANDER%d", i), Settlement: "H" + code, Person: "honest" + code, Price: schema.Whole(5)})
		}
	}
	return more
}

// TestCases holds every rule to its cases, and again with the rows shuffled,
// doubled, split over two inserts with a pass between, and among honest
// traffic: the same suspects every time. All cases share one table, so that
// each is also the other's surroundings.
func TestCases(t *testing.T) {
	t.Parallel()
	rules, err := detect.Rules()
	if err != nil {
		t.Fatal(err)
	}
	ruleOf := map[string]detect.Rule{}
	for _, rule := range rules {
		ruleOf[rule.ID] = rule
	}
	cases := readCases(t, rules)
	key := testKey(t)
	// More honest sales change the shares of a shop's month, so those shops are left alone.
	ofShares := map[string]bool{}
	for _, rule := range rules {
		ofShares[rule.ID] = slices.ContainsFunc(rule.Params, func(p detect.Param) bool { return p.Name == "share" })
	}
	var all, crowded []schema.Scan
	suspended := map[string]bool{} // nothing that such an org settles is honest
	for _, c := range cases {
		all = append(all, c.scans...)
		if !ofShares[c.rule] {
			crowded = append(crowded, c.scans...)
		}
		for _, row := range c.reference["orgs"] {
			if row["status"] == "suspended" || row["status"] == "ended" {
				suspended[row["org"]] = true
			}
		}
	}
	shuffled := func() []schema.Scan {
		r := rand.New(rand.NewPCG(1, 2))
		list := slices.Clone(all)
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list
	}
	for _, variant := range []struct {
		name, transport string
		inserts         [][]schema.Scan
	}{
		{"as written", "native", [][]schema.Scan{all}},
		{"shuffled", "http", [][]schema.Scan{shuffled()}},
		{"every scan twice", "native", [][]schema.Scan{slices.Concat(shuffled(), all)}},
		{"late, in two passes", "http", [][]schema.Scan{shuffled()[:len(all)/2], shuffled()[len(all)/2:]}},
		{"among honest traffic", "native", [][]schema.Scan{slices.Concat(bystanders(crowded, suspended), shuffled())}},
	} {
		t.Run(variant.name, func(t *testing.T) {
			conn := newDatabase(t, variant.transport)
			loadReference(t, conn, key, cases)
			for _, scans := range variant.inserts {
				send(t, conn, key, scans)
				pass(t, detect.Config{Conn: conn, Rules: rules})
			}
			found := openSuspects(t, conn)
			for _, c := range cases {
				want := map[string]string{}
				for _, name := range c.want {
					entityName, month, _ := strings.Cut(name, "@20")
					id := c.entity(key, ruleOf[c.rule], entityName)
					if month != "" {
						id += "@20" + month
					}
					want[id] = name
				}
				var got []string
				amount := 0.0
				for _, s := range found[c.rule] {
					if len(s.Orgs) == 0 || !strings.HasPrefix(s.Orgs[0], c.tag) {
						continue
					}
					id := entityOf(ruleOf[c.rule], s)
					name, known := want[id+"@"+s.Period]
					if !known {
						name, known = want[id]
					}
					if !known {
						name = strings.TrimSuffix(id+"@"+s.Period, "@")
					}
					got = append(got, name)
					amount += s.Amount
					for _, text := range c.says {
						if !strings.Contains(s.Reason, text) {
							t.Errorf("%s\nreason %s\nwant it to say %s", c.name, s.Reason, text)
						}
					}
					for _, text := range c.never {
						if strings.Contains(s.Reason, text) {
							t.Errorf("%s\nreason %s\nwant it not to say %s", c.name, s.Reason, text)
						}
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, c.want) {
					t.Errorf("%s\n got %v\nwant %v", c.name, got, c.want)
				}
				if c.pays != "" && number(t, c.pays).Float() != math.Round(amount*100)/100 {
					t.Errorf("%s\n got %v yuan\nwant %s", c.name, amount, c.pays)
				}
			}
			for _, r := range rules {
				for _, s := range found[r.ID] {
					if r.Same.Pattern != nil && !r.Same.Pattern.MatchString(s.Reason) {
						t.Errorf("rule %s: its header says what is the same, %s, and a reason has none: %s", r.ID, r.Same.Pattern, s.Reason)
					}
				}
			}
			again := pass(t, detect.Config{Conn: conn, Rules: rules})
			for _, r := range again.Rules {
				if r.New+r.Changed+r.Explained > 0 {
					t.Errorf("a second pass over the same scans: rule %s says %d new, %d changed, %d explained", r.ID, r.New, r.Changed, r.Explained)
				}
			}
		})
	}
}

package plain

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"yaosu/schema"
)

// Reference is what the detectors know beside the events. The zero value knows
// nothing, which every detector survives.
type Reference struct {
	Orgs      map[string][]OrgRow // by org, in order of loading
	Drugs     map[string]DrugRow  // by product, GTINs with 14 digits
	Persons   map[string]PersonRow
	Inpatient []InpatientRow
	Regions   map[string]Place
	Parents   map[string][]string // child code as written, to its larger packs
}

// Place is a point on the globe in degrees.
type Place struct{ Lat, Lon float64 }

// OrgRow is one row of an institution's history.
type OrgRow struct {
	Org, Name, Region, Type, Status string
	At                              *Place    // nil when unknown
	From, To                        time.Time // dates, zero when open
}

// DrugRow is one product, at one pack level.
type DrugRow struct {
	Product, Drug string
	PackUnits     *big.Rat // nil when unknown
	PackLevel     int      // 0 when unknown
	MaxPrice      *big.Rat // nil when unknown
	TraceExempt   bool
}

// Smallest tells whether the product is a smallest sale pack, as unknown
// levels are.
func (d DrugRow) Smallest() bool { return d.PackLevel <= 1 }

// PersonRow is what is known of an insured person.
type PersonRow struct {
	Household string
	DiedOn    time.Time
}

// InpatientRow is one stay in hospital; Discharged is zero while it lasts.
type InpatientRow struct {
	Person, Org          string
	Admitted, Discharged time.Time
}

// LoadReference reads orgs.csv, drugs.csv, persons.csv, inpatient.csv,
// regions.csv and packs.csv from dir. A file that is not there is knowledge
// that is not there.
func LoadReference(dir string) (Reference, error) {
	var ref Reference
	loads := []struct {
		kind string
		add  func(row) error
	}{
		{"orgs", ref.addOrg},
		{"drugs", ref.addDrug},
		{"persons", ref.addPerson},
		{"inpatient", ref.addInpatient},
		{"regions", ref.addRegion},
		{"packs", ref.addPack},
	}
	for _, l := range loads {
		if err := readCSV(filepath.Join(dir, l.kind+".csv"), l.add); err != nil {
			return Reference{}, fmt.Errorf("load %s: %w", l.kind, err)
		}
	}
	return ref, nil
}

// row is a CSV line by column name.
type row map[string]string

func readCSV(path string, add func(row) error) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	r := csv.NewReader(f)
	header, err := r.Read()
	if err != nil {
		return fmt.Errorf("read header: %w", err)
	}
	for n := 2; ; n++ {
		fields, err := r.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		line := row{}
		for i, name := range header {
			line[strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))] = strings.TrimSpace(fields[i])
		}
		if err := add(line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}

func (ref *Reference) addOrg(r row) error {
	from, err := date(r["status_from"])
	if err != nil {
		return err
	}
	to, err := date(r["status_to"])
	if err != nil {
		return err
	}
	at, err := place(r["lat"], r["lon"])
	if err != nil {
		return err
	}
	if ref.Orgs == nil {
		ref.Orgs = map[string][]OrgRow{}
	}
	o := OrgRow{Org: r["org"], Name: r["name"], Region: r["region"], Type: r["type"], Status: r["status"], At: at, From: from, To: to}
	rows := ref.Orgs[o.Org]
	for i := range rows {
		// The same piece of history loaded again takes the old one's place.
		if rows[i].From.Equal(from) {
			rows[i] = o
			return nil
		}
	}
	ref.Orgs[o.Org] = append(rows, o)
	return nil
}

func (ref *Reference) addDrug(r row) error {
	d := DrugRow{Product: gtin14(r["product"]), Drug: r["drug"]}
	var err error
	if d.PackUnits, err = rat(r["pack_units"]); err != nil {
		return err
	}
	if d.MaxPrice, err = rat(r["max_price"]); err != nil {
		return err
	}
	if s := r["pack_level"]; s != "" {
		if d.PackLevel, err = strconv.Atoi(s); err != nil {
			return err
		}
	}
	switch strings.ToLower(r["trace_exempt"]) {
	case "1", "true", "yes", "y", "t":
		d.TraceExempt = true
	}
	if ref.Drugs == nil {
		ref.Drugs = map[string]DrugRow{}
	}
	ref.Drugs[d.Product] = d
	return nil
}

func (ref *Reference) addPerson(r row) error {
	died, err := date(r["died_on"])
	if err != nil {
		return err
	}
	if ref.Persons == nil {
		ref.Persons = map[string]PersonRow{}
	}
	ref.Persons[r["person"]] = PersonRow{Household: r["household"], DiedOn: died}
	return nil
}

func (ref *Reference) addInpatient(r row) error {
	in := InpatientRow{Person: r["person"], Org: r["org"]}
	var err error
	if in.Admitted, err = time.Parse(time.RFC3339, r["admitted"]); err != nil {
		return err
	}
	if s := r["discharged"]; s != "" {
		if in.Discharged, err = time.Parse(time.RFC3339, s); err != nil {
			return err
		}
	}
	for i, old := range ref.Inpatient {
		if old.Person == in.Person && old.Org == in.Org && old.Admitted.Equal(in.Admitted) {
			ref.Inpatient[i] = in
			return nil
		}
	}
	ref.Inpatient = append(ref.Inpatient, in)
	return nil
}

func (ref *Reference) addRegion(r row) error {
	at, err := place(r["lat"], r["lon"])
	if err != nil || at == nil {
		return err
	}
	if ref.Regions == nil {
		ref.Regions = map[string]Place{}
	}
	ref.Regions[r["region"]] = *at
	return nil
}

func (ref *Reference) addPack(r row) error {
	if ref.Parents == nil {
		ref.Parents = map[string][]string{}
	}
	ref.Parents[r["child"]] = append(ref.Parents[r["child"]], r["parent"])
	return nil
}

// place of an institution at the time of a sale: its own, else the centre of
// the sale's region.
func (ref Reference) place(org, region string) (Place, bool) {
	rows := ref.Orgs[org]
	var best *OrgRow
	for i := range rows {
		if rows[i].At != nil && (best == nil || !rows[i].From.Before(best.From)) {
			best = &rows[i]
		}
	}
	if best != nil {
		return *best.At, true
	}
	p, ok := ref.Regions[region]
	return p, ok
}

// smallestOf gives the units in a smallest pack of a drug, nil when unknown.
// Products of one drug may differ; the one with the lowest number speaks.
func (ref Reference) smallestOf(drug string) *big.Rat {
	var best DrugRow
	for _, d := range ref.Drugs {
		if drug == "" || d.Drug != drug || !d.Smallest() || d.PackUnits == nil {
			continue
		}
		if best.Product == "" || d.Product < best.Product {
			best = d
		}
	}
	return best.PackUnits
}

func date(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.DateOnly, s)
}

func place(lat, lon string) (*Place, error) {
	if lat == "" || lon == "" {
		return nil, nil
	}
	la, err := strconv.ParseFloat(lat, 64)
	if err != nil {
		return nil, err
	}
	lo, err := strconv.ParseFloat(lon, 64)
	if err != nil {
		return nil, err
	}
	return &Place{Lat: la, Lon: lo}, nil
}

func rat(s string) (*big.Rat, error) {
	if s == "" {
		return nil, nil
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil, fmt.Errorf("%q is no number", s)
	}
	return r, nil
}

// gtin14 fills a GTIN up to 14 digits and leaves other products alone.
func gtin14(product string) string {
	if n := len(product); n != 8 && n != 12 && n != 13 {
		return product
	}
	if strings.Trim(product, "0123456789") != "" {
		return product
	}
	return strings.Repeat("0", 14-len(product)) + product
}

// day is the date of t in Shanghai, at midnight UTC like every other date.
func day(t time.Time) time.Time {
	y, m, d := t.In(schema.Shanghai).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

func month(t time.Time) string { return t.In(schema.Shanghai).Format("2006-01") }

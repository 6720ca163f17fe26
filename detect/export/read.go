package export

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/schema"
)

//go:embed suspects.sql
var suspectsSQL string

//go:embed numbers.sql
var numbersSQL string

//go:embed names.sql
var namesSQL string

// Filter says which suspects Read returns. The zero value: all that are open to
// somebody, so neither dismissed nor explained.
type Filter struct {
	ID         string    // of one suspect, whole; empty means any
	Detectors  []string  // ids; none means every detector
	Severities []string  // low, medium, high; none means all
	Region     string    // prefix of any region concerned; empty means everywhere
	Since      time.Time // last changed then or later; zero means ever
	All        bool      // dismissed and explained ones too
}

// Words tells what f asks for, Chinese. titles are those of detectors.
func (f Filter) Words(titles map[string]string) string {
	var words []string
	var some []string
	for _, d := range f.Detectors {
		some = append(some, cmp.Or(titles[d], d))
	}
	if len(some) > 0 {
		words = append(words, "规则:"+strings.Join(some, "、"))
	}
	some = nil
	for _, s := range f.Severities {
		some = append(some, inChinese(s))
	}
	if len(some) > 0 {
		words = append(words, "严重程度:"+strings.Join(some, "、"))
	}
	if f.Region != "" {
		words = append(words, "涉及区划:"+f.Region+"开头")
	}
	if !f.Since.IsZero() {
		words = append(words, f.Since.In(schema.Shanghai).Format("2006-01-02 15:04")+" 以后有变化")
	}
	if f.All {
		words = append(words, "含已排除、已解释的")
	} else {
		words = append(words, "不含已排除、已解释的")
	}
	return strings.Join(words, ";")
}

// Severities are the values of Filter.Severities.
func Severities() []string { return []string{"low", "medium", "high"} }

// Check returns an error when a filter cannot match anything by its form.
func (f Filter) Check() error {
	for _, d := range f.Detectors {
		if d == "" || strings.Trim(d, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return fmt.Errorf("detector %q: want an id such as resold_code", d)
		}
	}
	for _, s := range f.Severities {
		if !slices.Contains(Severities(), s) {
			return fmt.Errorf("severity %q: want one of %s", s, strings.Join(Severities(), ", "))
		}
	}
	if len(f.Region) > 6 || strings.Trim(f.Region, "0123456789") != "" {
		return fmt.Errorf("region %q: want the first digits of a county, at most 6", f.Region)
	}
	return nil
}

// Read returns the suspects that f asks for, severe ones first, then those that
// happened last, then by id.
func Read(ctx context.Context, conn driver.Conn, f Filter) ([]schema.Suspect, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	since := int64(0)
	if !f.Since.IsZero() {
		since = f.Since.UnixMilli()
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{
		"id":         f.ID,
		"detectors":  strings.Join(f.Detectors, ","),
		"severities": strings.Join(f.Severities, ","),
		"region":     f.Region,
		"since_ms":   strconv.FormatInt(since, 10),
		"all":        strconv.FormatBool(f.All),
	}))
	rows, err := conn.Query(ctx, suspectsSQL)
	if err != nil {
		return nil, fmt.Errorf("read suspects: %w", err)
	}
	defer rows.Close()
	var list []schema.Suspect
	for rows.Next() {
		var s schema.Suspect
		err := rows.Scan(
			&s.ID, &s.Detector, &s.DetectorVersion, &s.Severity, &s.EntityKind, &s.EntityID, &s.Period, &s.Regions,
			&s.Score, &s.FirstTime, &s.LastTime, &s.Amount, &s.Events, &s.Codes, &s.Orgs, &s.Roles, &s.Persons,
			&s.Reason, &s.Parameters, &s.Status, &s.OpenedAt, &s.UpdatedAt, &s.SupersededBy, &s.Reopened,
		)
		if err != nil {
			return nil, fmt.Errorf("read suspects: %w", err)
		}
		list = append(list, plain(s))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read suspects: %w", err)
	}
	return list, nil
}

// ReadNames fills in what reference data knows of the institutions in list, and the
// names of all regions.
func (a *Around) ReadNames(ctx context.Context, conn driver.Conn, list []schema.Suspect) error {
	orgs := map[string]struct{}{}
	for i := range list {
		for _, org := range list[i].Orgs {
			orgs[org] = struct{}{}
		}
	}
	a.Names, a.Types, a.OrgRegions, a.Regions = map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}
	err := askFor(ctx, conn, namesSQL, "orgs", orgs, func(rows driver.Rows) error {
		var org, name, kind, region string
		if err := rows.Scan(&org, &name, &kind, &region); err != nil {
			return err
		}
		for into, value := range map[*map[string]string]string{&a.Names: name, &a.Types: kind, &a.OrgRegions: region} {
			if value != "" {
				(*into)[org] = value
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the names of institutions: %w", err)
	}
	rows, err := conn.Query(ctx, "SELECT region, name FROM regions WHERE name != ''")
	if err != nil {
		return fmt.Errorf("read the names of regions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var region, name string
		if err := rows.Scan(&region, &name); err != nil {
			return fmt.Errorf("read the names of regions: %w", err)
		}
		a.Regions[region] = name
	}
	return rows.Err()
}

// token is what may be a pseudonym in a sentence: a word of 16 small letters
// and digits.
var token = regexp.MustCompile(`\b[a-kmnp-z2-9]{16}\b`)

// Resolve puts numbers in the place of pseudonyms: in persons, in the entity_id
// of persons, and in reason. It changes list. A pseudonym that the vault does
// not know stays. Who may not read the vault gets an error that says so, and an
// unchanged list.
func Resolve(ctx context.Context, conn driver.Conn, list []schema.Suspect) error {
	people := map[string]struct{}{}
	for i := range list {
		s := &list[i]
		for _, p := range s.Persons {
			people[p] = struct{}{}
		}
		if s.EntityKind == "person" {
			people[s.EntityID] = struct{}{}
		}
		for _, p := range token.FindAllString(s.Reason, -1) {
			people[p] = struct{}{}
		}
	}
	delete(people, "")
	numbers, err := lookUp(ctx, conn, numbersSQL, "persons", people)
	if denied(err) {
		return fmt.Errorf("the persons of this list cannot be shown by number, as the ClickHouse user may not read the vault; missing: GRANT SELECT ON %s TO %s", vault(ctx, conn), user(ctx, conn))
	}
	if err != nil {
		return fmt.Errorf("read the vault of persons: %w", err)
	}
	for i := range list {
		s := &list[i]
		persons := make([]string, len(s.Persons))
		for j, p := range s.Persons {
			persons[j] = number(numbers, p)
		}
		s.Persons = persons
		if s.EntityKind == "person" {
			s.EntityID = number(numbers, s.EntityID)
		}
		s.Reason = token.ReplaceAllStringFunc(s.Reason, func(p string) string { return number(numbers, p) })
	}
	return nil
}

func number(numbers map[string]string, person string) string {
	if n, known := numbers[person]; known {
		return n
	}
	return person
}

// lookUpAtOnce keeps a query within the length of an HTTP address.
const lookUpAtOnce = 1000

// lookUp runs a query from keys to values.
func lookUp(ctx context.Context, conn driver.Conn, query, parameter string, keys map[string]struct{}) (map[string]string, error) {
	found := map[string]string{}
	err := askFor(ctx, conn, query, parameter, keys, func(rows driver.Rows) error {
		var key, value string
		if err := rows.Scan(&key, &value); err != nil {
			return err
		}
		found[key] = value
		return nil
	})
	return found, err
}

// askFor runs a query for keys, given as one parameter with commas, and calls each
// for its rows. A key with a comma finds nothing: neither orgs nor pseudonyms have
// one.
func askFor(ctx context.Context, conn driver.Conn, query, parameter string, keys map[string]struct{}, each func(driver.Rows) error) error {
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(keys)), lookUpAtOnce) {
		asked := clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{parameter: strings.Join(chunk, ",")}))
		rows, err := conn.Query(asked, query)
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := each(rows); err != nil {
				rows.Close()
				return err
			}
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
	}
	return nil
}

// accessDenied is the engine's error code for a right that is missing.
const accessDenied = 497

func denied(err error) bool {
	if err == nil {
		return false
	}
	var refused *clickhouse.Exception
	if errors.As(err, &refused) {
		return refused.Code == accessDenied
	}
	// Over HTTP the error is the server's text.
	return strings.Contains(err.Error(), "ACCESS_DENIED")
}

// vault and user name what a right is missing for; when they cannot be asked,
// the words a manual would use.
func vault(ctx context.Context, conn driver.Conn) string {
	return ask(ctx, conn, "SELECT concat(currentDatabase(), '.person_vault')", schema.DefaultDatabase+".person_vault")
}

func user(ctx context.Context, conn driver.Conn) string {
	return ask(ctx, conn, "SELECT currentUser()", "the user")
}

func ask(ctx context.Context, conn driver.Conn, query, otherwise string) string {
	var answer string
	if err := conn.QueryRow(ctx, query).Scan(&answer); err != nil {
		return otherwise
	}
	return answer
}

package detect

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"yaosu/schema"
)

// standing is a suspect as the machine last wrote it, with its version.
type standing struct {
	schema.Suspect
	version uint64
}

const suspectColumns = `suspect_id, detector, detector_version, severity, entity_kind, entity_id, period, regions, score,
	first_time, last_time, amount, events, codes, orgs, roles, persons, reason, parameters, status, opened_at, updated_at, superseded_by`

// readStanding returns what rule found before, by suspect id; which narrows it, SQL
// over suspect_rows with the parameter rule.
func readStanding(ctx context.Context, conn driver.Conn, rule, which string) (map[string]standing, error) {
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"rule": rule}))
	rows, err := conn.Query(ctx, "SELECT "+suspectColumns+", version FROM suspect_rows FINAL WHERE detector = {rule:String} AND "+which)
	if err != nil {
		return nil, fmt.Errorf("read the suspects of before: %w", err)
	}
	defer rows.Close()
	before := map[string]standing{}
	for rows.Next() {
		var s standing
		if err := rows.Scan(&s.ID, &s.Detector, &s.DetectorVersion, &s.Severity, &s.EntityKind, &s.EntityID, &s.Period,
			&s.Regions, &s.Score, &s.FirstTime, &s.LastTime, &s.Amount, &s.Events, &s.Codes, &s.Orgs, &s.Roles, &s.Persons,
			&s.Reason, &s.Parameters, &s.Status, &s.OpenedAt, &s.UpdatedAt, &s.SupersededBy, &s.version); err != nil {
			return nil, fmt.Errorf("read the suspects of before: %w", err)
		}
		before[s.ID] = s
	}
	return before, rows.Err()
}

// writeStanding is safe to call twice: of one version, either copy serves.
func writeStanding(ctx context.Context, conn driver.Conn, list []standing) error {
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := toTheEnd(ctx)
	defer cancel()
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO suspect_rows ("+suspectColumns+", version)")
	if err != nil {
		return fmt.Errorf("write %d suspects: %w", len(list), err)
	}
	defer batch.Close()
	for _, s := range list {
		if err := batch.Append(s.ID, s.Detector, s.DetectorVersion, s.Severity, s.EntityKind, s.EntityID, s.Period,
			s.Regions, s.Score, s.FirstTime, s.LastTime, s.Amount, s.Events, s.Codes, s.Orgs, s.Roles, s.Persons,
			s.Reason, s.Parameters, s.Status, s.OpenedAt, s.UpdatedAt, s.SupersededBy, s.version); err != nil {
			return fmt.Errorf("write suspect %s: %w", s.ID, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("write %d suspects: %w", len(list), err)
	}
	return nil
}

// exemptions are what somebody with a name and a reason took out of sight.
type exemptions []exemption

type exemption struct {
	detector, entityKind, entityID string
	from, to                       string // dates, empty for open
	author, reason                 string
}

func readExemptions(ctx context.Context, conn driver.Conn) (exemptions, error) {
	rows, err := conn.Query(ctx, "SELECT detector, entity_kind, entity_id, ifNull(toString(`from`), ''), ifNull(toString(`to`), ''), author, reason FROM exemptions ORDER BY detector, entity_kind, entity_id, `from`")
	if err != nil {
		return nil, fmt.Errorf("read the exemptions: %w", err)
	}
	defer rows.Close()
	var list exemptions
	for rows.Next() {
		var e exemption
		if err := rows.Scan(&e.detector, &e.entityKind, &e.entityID, &e.from, &e.to, &e.author, &e.reason); err != nil {
			return nil, fmt.Errorf("read the exemptions: %w", err)
		}
		list = append(list, e)
	}
	return list, rows.Err()
}

// exempted begins what the reason of a suspect says that stands and is exempt.
const exempted = "（已豁免："

// apply closes s when an exemption covers the day it last happened, and says
// whose it is: an exempt finding is shown as such, never dropped.
func (list exemptions) apply(s *schema.Suspect) {
	if e, covered := list.cover(s); covered {
		s.Status = schema.StatusExplained
		s.Reason += fmt.Sprintf(exempted+"%s，批准人 %s）", e.reason, e.author)
	}
}

// bare is s without what apply said of it. stands tells whether there is a finding
// behind it, exempt or not.
func bare(s schema.Suspect) (found schema.Suspect, stands bool) {
	if reason, _, exempt := strings.Cut(s.Reason, exempted); exempt && s.Status == schema.StatusExplained {
		s.Status, s.Reason = schema.StatusOpen, reason
	}
	return s, s.Status == schema.StatusOpen
}

// cover returns the first exemption for s.
func (list exemptions) cover(s *schema.Suspect) (exemption, bool) {
	day := s.LastTime.In(schema.Shanghai).Format(time.DateOnly)
	for _, e := range list {
		if (e.detector == "" || e.detector == s.Detector) &&
			e.entityKind == s.EntityKind && e.entityID == s.EntityID &&
			e.from <= day && (e.to == "" || day <= e.to) {
			return e, true
		}
	}
	return exemption{}, false
}

package detect

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"yaosu/schema"
)

// finding is one row of a rule.
type finding struct {
	entityID string
	period   string
	severity string
	score    float64
	amount   float64
	reason   string
	evidence []proof
}

// proof is one event of the evidence, for one code.
type proof struct {
	time                                   time.Time
	org, event, role, code, person, region string
}

// readProofs takes the column evidence as the driver gives it.
func readProofs(column [][]any) ([]proof, error) {
	proofs := make([]proof, 0, len(column))
	for _, tuple := range column {
		var p proof
		if len(tuple) != 7 {
			return nil, fmt.Errorf("evidence has %d parts, want 7: time, org, event_id, role, code, person, region", len(tuple))
		}
		at, ok := tuple[0].(time.Time)
		if !ok {
			return nil, fmt.Errorf("evidence: the first part is %T, want a time", tuple[0])
		}
		p.time = at.In(schema.Shanghai)
		for i, into := range []*string{&p.org, &p.event, &p.role, &p.code, &p.person, &p.region} {
			if *into, ok = tuple[i+1].(string); !ok {
				return nil, fmt.Errorf("evidence: part %d is %T, want a string", i+2, tuple[i+1])
			}
		}
		proofs = append(proofs, p)
	}
	return orderProofs(proofs), nil
}

// cents rounds yuan. Sums of floats differ in their last bits with the order of
// rows; those go first, so that half a cent falls to the same side every time.
func cents(yuan float64) float64 {
	return math.Round(math.Round(yuan*1e6)/1e4) / 100
}

// suspect gives a finding the columns that follow from its evidence.
func (f *finding) suspect(rule *Rule, parameters string) schema.Suspect {
	s := schema.Suspect{
		ID:              schema.SuspectID(rule.ID, rule.Entity, f.entityID, f.period),
		Detector:        rule.ID,
		DetectorVersion: rule.Version,
		EntityKind:      rule.Entity,
		EntityID:        f.entityID,
		Period:          f.period,
		Score:           f.score,
		Amount:          cents(f.amount),
		Reason:          f.reason,
		Parameters:      parameters,
		Status:          schema.StatusOpen,
		Regions:         []string{},
		Events:          []string{},
		Codes:           []string{},
		Orgs:            []string{},
		Roles:           []string{},
		Persons:         []string{},
	}
	seen := map[*[]string]map[string]bool{}
	add := func(list *[]string, value string) {
		if seen[list] == nil {
			seen[list] = map[string]bool{}
		}
		if value != "" && !seen[list][value] {
			seen[list][value] = true
			*list = append(*list, value)
		}
	}
	played := map[[2]string]bool{}
	for i, p := range f.evidence {
		if i == 0 {
			s.FirstTime = p.time
		}
		s.LastTime = p.time
		add(&s.Events, p.org+"/"+p.event)
		add(&s.Codes, p.code)
		add(&s.Persons, p.person)
		if part := [2]string{p.org, p.role}; !played[part] {
			played[part] = true
			s.Orgs = append(s.Orgs, p.org)
			s.Roles = append(s.Roles, p.role)
		}
	}
	for _, p := range slices.Backward(f.evidence) {
		add(&s.Regions, p.region)
	}
	s.Severity = Severity(rule.ID, cmp.Or(f.severity, rule.Severity), f.weight(&s))
	return s
}

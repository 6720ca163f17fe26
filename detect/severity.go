package detect

import (
	"fmt"
	"slices"

	"yaosu/schema"
)

// Weight is what the severity of a suspect is judged by.
type Weight struct {
	Persons, Orgs, Regions, Codes, Events int

	// Amount is what the fund should not have paid, yuan.
	Amount float64

	// OneOrg and OnePerson say that every event is known to be of the same one. An
	// event without a person makes OnePerson false: not known is not the same.
	OneOrg, OnePerson bool
}

// From these numbers on a suspect is one step more severe than its rule says.
const (
	ManyPersons = 30
	ManyOrgs    = 5
	ManyRegions = 3
	ManyCodes   = 30
	MuchMoney   = 10_000 // yuan

	// FewEvents at one place, of one person, are taken for a slip of the hand. The
	// EU's system for medicines bears as many repeats at one place before it alarms.
	FewEvents = 3
)

// slips are the rules whose finding can be one box that was scanned again by
// accident. What others find is no slip however small it is.
var slips = []string{"reused_code_same_org", "cash_and_insured"}

// Severity is how severe a finding of detector is, by a written rule, the same
// that docs/detectors.md and the spreadsheet tell: base is what the rule says, low,
// medium or high. Few repeats at one place with the same person are low, and many
// persons, institutions, regions or codes or much money raise by one step. More
// of anything never lowers it.
func Severity(detector, base string, w Weight) string {
	step := max(slices.Index(severities, base), 0)
	if slices.Contains(slips, detector) && w.OneOrg && w.OnePerson && w.Events <= FewEvents {
		step = 0
	}
	if w.Persons >= ManyPersons || w.Orgs >= ManyOrgs || w.Regions >= ManyRegions || w.Codes >= ManyCodes || w.Amount >= MuchMoney {
		step = min(step+1, len(severities)-1)
	}
	return severities[step]
}

// SeverityRule tells officers, in Chinese, what Severity does.
func SeverityRule() string {
	return fmt.Sprintf("高、中、低,先按规则定级,再看分量:同一机构、同一参保人、不超过 %d 笔的重复多为操作差错,定为低(只限同机构重复结算、一码自费又医保这类规则,"+
		"参保人不详的不算同一人);参保人 %d 名以上、机构 %d 家以上、县区 %d 个以上、追溯码 %d 个以上或金额 %d 元以上,有一项即上调一级。线索越大只会越严重,不会变轻。",
		FewEvents, ManyPersons, ManyOrgs, ManyRegions, ManyCodes, MuchMoney)
}

// weight is that of a finding; s is its suspect with all lists.
func (f *finding) weight(s *schema.Suspect) Weight {
	w := Weight{
		Persons: len(s.Persons), Regions: len(s.Regions), Codes: len(s.Codes), Events: len(s.Events),
		Amount: s.Amount, OnePerson: len(f.evidence) > 0,
	}
	orgs := map[string]bool{}
	for _, p := range f.evidence {
		orgs[p.org] = true
		w.OnePerson = w.OnePerson && p.person != "" && p.person == f.evidence[0].person
	}
	w.Orgs, w.OneOrg = len(orgs), len(orgs) == 1
	return w
}

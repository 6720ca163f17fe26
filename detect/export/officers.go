package export

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"yaosu/schema"
)

// reader makes of the page of a rule what an officer reads, who knows neither ids
// nor parameters: rules by their titles, parameters by their values.
type reader struct {
	ids    *regexp.Regexp // of rules; nil for none
	titles map[string]string
}

func newReader(titles map[string]string) *reader {
	r := &reader{titles: titles}
	if len(titles) > 0 {
		ids := slices.Sorted(maps.Keys(titles))
		slices.Reverse(ids) // the longer before what it begins with
		r.ids = regexp.MustCompile(` ?\b(` + strings.Join(ids, "|") + `)\b ?`)
	}
	return r
}

var (
	parameterPoint = regexp.MustCompile("(?m)^- `([a-z_]+)`\\(默认 ([^)]*)\\):")
	inQuotes       = regexp.MustCompile("`([a-z_]+)`")
)

// text is a section of a page; values are those of its parameters.
func (r *reader) text(section string, values map[string]string) string {
	section = parameterPoint.ReplaceAllStringFunc(section, func(point string) string {
		m := parameterPoint.FindStringSubmatch(point)
		if v := values[m[1]]; v != "" && v != m[2] {
			return fmt.Sprintf("- 现为 %s(默认 %s):", v, m[2])
		}
		return fmt.Sprintf("- 现为 %s:", m[2])
	})
	section = inQuotes.ReplaceAllStringFunc(section, func(quoted string) string {
		if v := values[strings.Trim(quoted, "`")]; v != "" {
			return v
		}
		return quoted
	})
	text := unmarked(section)
	if r.ids != nil {
		text = r.ids.ReplaceAllStringFunc(text, func(id string) string { return "“" + r.titles[strings.TrimSpace(id)] + "”" })
	}
	return text
}

// valuesOf are the parameters a suspect was found with, as words.
func valuesOf(s *schema.Suspect) map[string]string {
	var parameters map[string]any
	if json.Unmarshal([]byte(s.Parameters), &parameters) != nil {
		return nil
	}
	values := map[string]string{}
	for name, v := range parameters {
		values[name] = fmt.Sprint(v)
	}
	return values
}

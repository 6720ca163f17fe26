package detect

import "strings"

// Section returns the text of a section of the rule's page, named by its English
// words, such as "What to check": without its heading.
func (r *Rule) Section(name string) string {
	var text []string
	inside := false
	for line := range strings.Lines(r.Page) {
		if strings.HasPrefix(line, "#") {
			inside = strings.Contains(line, name)
			continue
		}
		if inside {
			text = append(text, strings.TrimRight(line, "\r\n"))
		}
	}
	return strings.TrimSpace(strings.Join(text, "\n"))
}

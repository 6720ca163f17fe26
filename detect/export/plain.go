package export

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Plain turns the Markdown of a rule's page into plain text.
func Plain(page string) string { return unmarked(page) }

// unmarked turns the Markdown of a rule's page into plain text: a line for each
// paragraph and each point, without marks.
func unmarked(page string) string {
	var lines []string
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		point := strings.HasPrefix(line, "- ") || numbered(line)
		line = strings.NewReplacer("**", "", "`", "").Replace(line)
		if rest, is := strings.CutPrefix(line, "- "); is {
			line = "· " + rest
		}
		last := len(lines) - 1
		switch {
		case line == "":
			if last >= 0 && lines[last] != "" {
				lines = append(lines, "")
			}
		case point || last < 0 || lines[last] == "":
			lines = append(lines, line)
		default: // a line that was broken for width
			before, _ := utf8.DecodeLastRuneInString(lines[last])
			after, _ := utf8.DecodeRuneInString(line)
			if before < unicode.MaxASCII && after < unicode.MaxASCII && !strings.ContainsRune(",;:(", before) {
				lines[last] += " "
			}
			lines[last] += line
		}
	}
	var kept []string
	for _, line := range lines {
		if line != "" {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// numbered tells whether a line begins as "1. ".
func numbered(line string) bool {
	digits := strings.IndexFunc(line, func(r rune) bool { return r < '0' || r > '9' })
	return digits > 0 && strings.HasPrefix(line[digits:], ". ")
}

// step is one of the points of a section, counted from 0, without its mark; empty
// where there are fewer.
func step(text string, n int) string {
	points := strings.Split(unmarked(text), "\n")
	if n >= len(points) {
		return ""
	}
	if numbered(points[n]) {
		_, point, _ := strings.Cut(points[n], ". ")
		return point
	}
	return strings.TrimPrefix(points[n], "· ")
}

// longestCell is what a spreadsheet keeps in one cell, in UTF-16 units.
const longestCell = 32_767

const cutMark = "…(过长,已截断)"

// cell makes any text one that a spreadsheet file can hold: XML knows no control
// characters, and a cell has an end. Newlines stay.
func cell(text string) string {
	if !strings.ContainsFunc(text, unfit) && len(text) <= longestCell {
		return text
	}
	text = strings.Map(func(r rune) rune {
		if unfit(r) {
			return '·'
		}
		return r
	}, text)
	units, room := 0, longestCell-len([]rune(cutMark))
	cut := -1
	for i, r := range text {
		if units++; r > 0xffff {
			units++
		}
		if cut < 0 && units > room {
			cut = i
		}
	}
	if units <= longestCell {
		return text
	}
	return text[:cut] + cutMark
}

// unfit are characters that an XML file cannot hold, or that steer what shows them.
func unfit(r rune) bool {
	switch {
	case r == '\n':
		return false
	case unicode.IsControl(r), r == utf8.RuneError, r == 0xfffe, r == 0xffff:
		return true
	}
	return unicode.Is(unicode.Bidi_Control, r)
}

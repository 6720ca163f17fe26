// Package detect runs the rules that turn scans into suspects.
//
// A rule is a folder under rules, and the folder is the list: detector.sql is
// the truth, detector.md the page an officer reads, cases.txtar its proof. A
// rule says in SQL what it finds and why; this package gives a finding its
// stable id, keeps what was found before, and closes what later events explain.
//
// It promises that the same scans give the same suspects, in whatever order and
// however often they came, and however often it runs. It does not judge: a
// human decision stands in another table and is never touched.
package detect

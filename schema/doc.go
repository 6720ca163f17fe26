// Package schema is the leaf every other part imports: what a scan, a code and
// a suspect are, on the wire and in the table.
//
// It promises that a value is understood once: JSON, NHSA and Arrow all end as
// the same Scan, a code is classified by one function, a row is made by one
// function, and the words "sale", "undone" and "effective" have one definition,
// the SQL views under migrations. It does not move data and starts nothing.
package schema

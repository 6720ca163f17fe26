// Package gate is the HTTP door of yaosu.
//
// Its promise so far: GET /healthz answers 200 as long as the process serves, GET
// /readyz answers 200 only when every part it depends on answered just now, and
// 503 with the names of those that did not otherwise. Requests that were begun
// are answered before Run returns.
//
// It does not yet take scans in, nor answer whether a code may be sold.
package gate

// Package proc gives tests the broker and the ingester as processes of their own,
// that can be killed, stopped and measured. They are the test binary itself,
// started again: its TestMain calls MaybeChild first of all. The engine is a
// process already, see local.StartEngine and its Pid.
//
// No child outlives the test that started it: it ends when its standard input
// does, and a stopped one is ended by the kernel with its parent. The package is
// for tests only, on Linux.
package proc

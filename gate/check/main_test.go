package check_test

import (
	"bytes"
	"testing"

	"yaosu/internal/enginetest"
	"yaosu/schema"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

func testKey(t testing.TB) *schema.PersonKey {
	t.Helper()
	key, err := schema.NewPersonKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

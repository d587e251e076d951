package main

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// shop is shared by the tests that run dataflows, so that our program is built once.
var shop *workshop

func TestMain(m *testing.M) {
	code, err := withWorkshop(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withWorkshop(run func() int) (int, error) {
	var err error
	shop, err = newWorkshop(context.Background(), os.Getenv("DORA_TEST_PYTHON"), os.Getenv("DORA_TEST_BINARY"), newProgress(os.Stderr))
	if err != nil {
		return 1, err
	}
	code := run()
	return code, shop.close()
}

// preparedShop fails the test if what it needs is missing; the error says what to do.
func preparedShop(t *testing.T) *workshop {
	t.Helper()
	if err := shop.preparePython(context.Background()); err != nil {
		t.Fatal(err)
	}
	return shop
}

package voltage

import (
	"encoding"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// loadSize is a number of bytes, such as 64MiB.
type loadSize int64

var loadSizes = map[string]int64{
	"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}

var loadSizeForm = regexp.MustCompile(`^([0-9]{1,18}) ?([A-Za-z]*)$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *loadSize) UnmarshalText(b []byte) error {
	bad := fmt.Errorf("%.40q is not a size such as 67108864, 64MiB or 1GiB", b)
	m := loadSizeForm.FindSubmatch(b)
	if m == nil {
		return bad
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	unit, ok := loadSizes[string(m[2])]
	if err != nil || !ok || n > math.MaxInt64/unit {
		return bad
	}
	*s = loadSize(n * unit)
	return nil
}

func loadDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%.40q is not a duration such as 500ms, 3s or 1m30s", s)
	}
	return d, nil
}

// loadInteger leaves out what looks octal and what other YAML readers take for
// one: 010, 0o10, 1_000.
var loadInteger = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]{0,19}|0x[0-9A-Fa-f]{1,16})$`)

func loadInt(s string) (*big.Int, error) {
	if !loadInteger.MatchString(s) {
		return nil, fmt.Errorf("%.40q is not a whole number", s)
	}
	n, ok := new(big.Int).SetString(s, 0)
	if !ok {
		return nil, fmt.Errorf("%.40q is not a whole number", s)
	}
	return n, nil
}

var loadNumber = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)

func loadFloat(s string) (float64, error) {
	if !loadNumber.MatchString(s) {
		switch strings.ToLower(strings.TrimLeft(s, "+-.")) {
		case "inf", "infinity", "nan":
			return 0, fmt.Errorf("%.40q: want a finite number", s)
		}
		if strings.Contains(s, ",") {
			return 0, fmt.Errorf("%.40q is not a number: write the decimals after a point", s)
		}
		return 0, fmt.Errorf("%.40q is not a number", s)
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !model.Finite(v) {
		return 0, fmt.Errorf("%.40q: want a finite number", s)
	}
	return v, nil
}

func loadBool(s string) (bool, error) {
	switch s {
	case "true", "True", "TRUE":
		return true, nil
	case "false", "False", "FALSE":
		return false, nil
	}
	return false, fmt.Errorf("%.40q is neither true nor false", s)
}

// loadSet parses a scalar's text into v.
func loadSet(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := loadDuration(text)
		v.SetInt(int64(d))
		return err
	}
	switch {
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		b, err := loadBool(text)
		v.SetBool(b)
		return err
	case v.CanInt(), v.CanUint():
		n, err := loadInt(text)
		if err != nil {
			return err
		}
		if v.CanInt() && n.IsInt64() && !v.OverflowInt(n.Int64()) {
			v.SetInt(n.Int64())
			return nil
		}
		if v.CanUint() && n.IsUint64() && !v.OverflowUint(n.Uint64()) {
			v.SetUint(n.Uint64())
			return nil
		}
		return fmt.Errorf("%.40q is out of range", text)
	case v.CanFloat():
		f, err := loadFloat(text)
		v.SetFloat(f)
		return err
	default:
		return fmt.Errorf("a %s cannot be read from text", v.Type())
	}
	return nil
}

// loadWant says what a value should be, without showing it.
func loadWant(v reflect.Value) string {
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		return "a duration"
	case v.Type() == reflect.TypeFor[loadSize]():
		return "a size"
	case v.Kind() == reflect.Bool:
		return "true or false"
	case v.CanInt():
		return fmt.Sprintf("a whole number of %d bits", v.Type().Bits())
	case v.CanUint():
		return fmt.Sprintf("a whole number of %d bits without a sign", v.Type().Bits())
	case v.CanFloat():
		return "a finite number"
	}
	return "a " + v.Type().String()
}

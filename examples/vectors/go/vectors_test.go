package vectors

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"example.org/vectors/xsave"
)

// What is read of vectors.json; vectors.schema.json describes all of it.
type vectors struct {
	CPUs []cpu `json:"cpus"`
}

type cpu struct {
	Name         string      `json:"name"`
	XCR0         mask        `json:"xcr0"`
	StandardSize int         `json:"standard_size"`
	Components   []component `json:"components"`
	Walks        []walk      `json:"walks"`
	Areas        []area      `json:"areas"`
}

type component struct {
	Number int  `json:"number"`
	Offset *int `json:"offset"`
}

type walk struct {
	XcompBV mask           `json:"xcomp_bv"`
	Size    int            `json:"size"`
	Offsets map[string]int `json:"offsets"`
}

type area struct {
	Name    string   `json:"name"`
	Image   image    `json:"image"`
	Meaning *meaning `json:"meaning"`
}

type image struct {
	Size int     `json:"size"`
	Runs [][]any `json:"runs"`
}

type meaning struct {
	Registers map[string]string `json:"registers"`
}

// A mask is hexadecimal text.
type mask uint64

func (m *mask) UnmarshalText(text []byte) error {
	value, err := strconv.ParseUint(string(text), 0, 64)
	*m = mask(value)
	return err
}

// The implementation under test.

func placesOf(c cpu) (size int, offset func(number int) (int, error), err error) {
	model, err := xsave.CPUOf(c.Name)
	if err != nil {
		return 0, nil, err
	}
	layout, err := model.Standard(uint64(c.XCR0))
	return layout.Size, func(number int) (int, error) {
		return model.Offset(0, xsave.Component(number))
	}, err
}

func walkOf(c cpu, xcompBV uint64) (size int, offset func(number int) (int, error), err error) {
	model, err := xsave.CPUOf(c.Name)
	if err != nil {
		return 0, nil, err
	}
	layout, err := model.Compacted(xcompBV)
	return layout.Size, func(number int) (int, error) {
		return model.Offset(xcompBV, xsave.Component(number))
	}, err
}

func registersOf(c cpu, data []byte) (map[string][]byte, error) {
	model, err := xsave.CPUOf(c.Name)
	if err != nil {
		return nil, err
	}
	layout, err := model.LayoutOf(data)
	if err != nil {
		return nil, err
	}
	return layout.Registers(data)
}

func TestVectors(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all vectors
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all.CPUs {
		c := c
		t.Run(c.Name, func(t *testing.T) {
			testPlaces(t, c)
			for _, w := range c.Walks {
				testWalk(t, c, w)
			}
			for _, a := range c.Areas {
				testArea(t, c, a)
			}
			t.Logf("%d walks, %d areas", len(c.Walks), len(c.Areas))
		})
	}
}

func testPlaces(t *testing.T, c cpu) {
	size, offset, err := placesOf(c)
	if err != nil || size != c.StandardSize {
		t.Fatalf("the standard format has %d bytes, want %d (%v)", size, c.StandardSize, err)
	}
	for _, component := range c.Components {
		found, err := offset(component.Number)
		if component.Offset == nil {
			if err == nil {
				t.Errorf("component %d stands at %d, want an error", component.Number, found)
			}
		} else if err != nil || found != *component.Offset {
			t.Errorf("component %d stands at %d, want %d (%v)", component.Number, found, *component.Offset, err)
		}
	}
}

func testWalk(t *testing.T, c cpu, w walk) {
	size, offset, err := walkOf(c, uint64(w.XcompBV))
	if err != nil || size != w.Size {
		t.Errorf("XCOMP_BV %#x: %d bytes, want %d (%v)", w.XcompBV, size, w.Size, err)
		return
	}
	for number := 0; number < 63; number++ {
		want, placed := w.Offsets[strconv.Itoa(number)]
		found, err := offset(number)
		if placed != (err == nil) || found != want {
			t.Errorf("XCOMP_BV %#x: component %d stands at %d, want %d (%v)", w.XcompBV, number, found, want, err)
		}
	}
}

func testArea(t *testing.T, c cpu, a area) {
	found, err := registersOf(c, bytesOf(t, a.Image))
	if a.Meaning == nil {
		if err == nil {
			t.Errorf("%s is read, want an error", a.Name)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", a.Name, err)
		return
	}
	for name := range a.Meaning.Registers {
		if _, ok := found[name]; !ok {
			t.Errorf("%s has no %s", a.Name, name)
		}
	}
	for name, value := range found {
		if want := a.Meaning.Registers[name]; !is(value, want) {
			t.Errorf("%s: %s is %x (lowest byte first), want %s", a.Name, name, value, want)
		}
	}
}

// is says whether bytes are what a vector has: a number, or bytes as hex; nothing is zero.
func is(value []byte, want string) bool {
	if !strings.HasPrefix(want, "0x") && want != "" {
		data, err := hex.DecodeString(want)
		return err == nil && bytes.Equal(value, data)
	}
	number, ok := new(big.Int), true
	if want != "" {
		number, ok = number.SetString(want, 0)
	}
	found := new(big.Int)
	for at := len(value) - 1; at >= 0; at-- {
		found.Lsh(found, 8).Or(found, big.NewInt(int64(value[at])))
	}
	return ok && found.Cmp(number) == 0
}

func bytesOf(t *testing.T, i image) []byte {
	data := make([]byte, i.Size)
	for _, run := range i.Runs {
		piece, err := hex.DecodeString(run[1].(string))
		if err != nil {
			t.Fatal(err)
		}
		copy(data[int(run[0].(float64)):], piece)
	}
	return data
}

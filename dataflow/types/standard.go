package types

import "sync"

// Names that the rules treat specially.
const (
	// Bytes takes every type.
	Bytes = "std/core/v1/Bytes"
	// Tick is what timers send.
	Tick = "std/core/v1/UInt64"
	// StandardPrefix belongs to the standard library.
	StandardPrefix = "std/"
)

// Standard is the standard library: 13 core types, 4 of mathematics, 3 of control, 4 of
// media and 3 of vision. It must not be added to; see NewLibrary.
var Standard = sync.OnceValue(func() *Library {
	l := &Library{defs: map[string]*Definition{}, byName: map[string][]string{}}
	for _, name := range []string{"Float32", "Float64", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"} {
		l.Add(Definition{URN: "std/core/v1/" + name, Arrow: name})
	}
	l.Add(Definition{URN: "std/core/v1/String", Arrow: "Utf8", Description: "text in UTF-8"})
	l.Add(Definition{URN: Bytes, Arrow: "LargeBinary", Description: "any bytes; takes every type"})
	l.Add(Definition{URN: "std/core/v1/Bool", Arrow: "Boolean"})

	group := func(prefix string) func(name, description string, fields ...string) *Definition {
		return func(name, description string, fields ...string) *Definition {
			d := Definition{URN: prefix + name, Arrow: structName, Description: description}
			for i := 0; i < len(fields); i += 2 {
				d.Fields = append(d.Fields, FieldDef{Name: fields[i], Type: fields[i+1], Nullable: true})
			}
			return l.Add(d)
		}
	}
	add := group("std/math/v1/")
	add("Vector3", "three coordinates", "x", "Float64", "y", "Float64", "z", "Float64")
	add("Quaternion", "an orientation", "x", "Float64", "y", "Float64", "z", "Float64", "w", "Float64")
	add("Pose", "position and orientation", "position", "std/math/v1/Vector3", "orientation", "std/math/v1/Quaternion")
	add("Transform", "translation and rotation", "translation", "std/math/v1/Vector3", "rotation", "std/math/v1/Quaternion")

	add = group("std/control/v1/")
	add("Twist", "linear and angular velocity", "linear", "std/math/v1/Vector3", "angular", "std/math/v1/Vector3")
	add("JointState", "state of named joints", "names", "List<Utf8>", "positions", "List<Float64>", "velocities", "List<Float64>", "efforts", "List<Float64>")
	add("Odometry", "pose and velocity in a frame", "pose", "std/math/v1/Pose", "twist", "std/control/v1/Twist", "frame_id", "Utf8")

	add = group("std/media/v1/")
	add("Image", "one raw picture", "width", "UInt32", "height", "UInt32", "encoding", "Utf8", "data", "LargeBinary")
	l.Add(Definition{URN: "std/media/v1/CompressedImage", Arrow: "LargeBinary", Description: "one compressed picture"})
	add("PointCloud", "points in space", "points", "LargeBinary", "width", "UInt32", "height", "UInt32")
	add("AudioFrame", "samples of sound", "sample_rate", "UInt32", "channels", "UInt32", "data", "LargeBinary").
		Params = []ParamDef{{Name: "sample_type", Default: "f32"}}

	add = group("std/vision/v1/")
	add("BoundingBox", "one box in a picture", "x", "Float32", "y", "Float32", "width", "Float32", "height", "Float32", "confidence", "Float32", "label", "Utf8")
	add("Detection", "boxes in a picture", "boxes", "List<std/vision/v1/BoundingBox>")
	add("Segmentation", "a class per pixel", "width", "UInt32", "height", "UInt32", "num_classes", "UInt32", "mask", "LargeBinary", "class_names", "List<Utf8>")
	return l
})

// What the weights of up to 16 handles are multiplied by: the factor that normalises them, and
// locality, (1 - distance along the surface / the longest) to a power.
precision highp float;
precision highp int;
precision highp usampler2DArray;

uniform usampler2DArray rows;
uniform sampler2D total;
uniform sampler2D falls; // of each handle: layer of its path or -1, power
uniform int handle_count;
uniform int first_handle;

layout(location = 0) out vec4 out0;
layout(location = 1) out vec4 out1;
layout(location = 2) out vec4 out2;
layout(location = 3) out vec4 out3;

float fall(ivec2 at, int handle) {
  if (handle >= handle_count) return 1.0;
  vec4 info = texelFetch(falls, ivec2(handle, 0), 0);
  if (info.x < 0.0) return 1.0;
  float away = float(texelFetch(rows, ivec3(at, int(info.x)), 0).r) / 65535.0;
  return away < 1.0 ? pow(1.0 - away, info.y) : 0.0;
}

vec4 four(ivec2 at, int first) {
  return vec4(fall(at, first), fall(at, first + 1), fall(at, first + 2), fall(at, first + 3));
}

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  float factor = texelFetch(total, at, 0).r;
  out0 = factor * four(at, first_handle);
  out1 = factor * four(at, first_handle + 4);
  out2 = factor * four(at, first_handle + 8);
  out3 = factor * four(at, first_handle + 12);
}

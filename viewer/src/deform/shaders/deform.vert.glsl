// A vertex of a deformed mesh: where it is and was at rest come out of textures.
precision highp float;
precision highp int;
precision highp sampler2DArray;

uniform mat4 modelViewMatrix;
uniform mat4 projectionMatrix;
uniform sampler2D moved;
uniform sampler2D rest;
uniform sampler2DArray weights;
uniform sampler2D marks; // colour of the position and how much of it is seen
uniform int heat_of; // a handle, -1: none
uniform bool marked;

in uint place;
in vec3 normal;
in vec2 uv;
in vec4 color;

out vec3 in_view;
out vec3 rest_in_view;
out vec3 normal_in_view;
out vec2 texture_at;
out vec4 vertex_color; // linear
out float heat;
out vec4 paint; // display-referred

const int ROW = 2048;

void main() {
  int index = int(place);
  ivec2 at = ivec2(index % ROW, index / ROW);
  vec4 here = modelViewMatrix * vec4(texelFetch(moved, at, 0).xyz, 1.0);
  in_view = here.xyz;
  rest_in_view = (modelViewMatrix * vec4(texelFetch(rest, at, 0).xyz, 1.0)).xyz;
  normal_in_view = mat3(modelViewMatrix) * normal;
  texture_at = vec2(uv.x, 1.0 - uv.y);
  vertex_color = vec4(linear_from_srgb(color.rgb), color.a);
  heat = heat_of < 0 ? 0.0 : texelFetch(weights, ivec3(at, heat_of >> 2), 0)[heat_of & 3];
  paint = marked ? texelFetch(marks, at, 0) : vec4(0.0);
  gl_Position = projectionMatrix * here;
}

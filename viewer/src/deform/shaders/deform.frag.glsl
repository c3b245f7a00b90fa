// Where positions go: geodistill.deform.blend.pose, of which linear blending is the case that nothing
// turns.
precision highp float;
precision highp int;
precision highp sampler2DArray;

uniform sampler2D rest;
uniform sampler2DArray weights;
uniform sampler2D columns; // seven texels each, see deform/maps.ts
uniform int column_count;
uniform vec4 planes[3]; // normal and offset of mirrors
uniform vec4 published_origin; // w: whether weights beyond 1 scale about this, as published

out vec4 moved;

float gate(float side, float height) {
  float t = clamp(0.5 * (side * height + 1.0), 0.0, 1.0);
  return side == 0.0 ? 1.0 : t * t * (3.0 - 2.0 * t);
}

// exp([r]x) y - y, in half angles: nothing cancels.
vec3 turn(vec3 y, vec3 r) {
  float half_angle = 0.5 * length(r);
  float sinc = half_angle > 1e-4 ? sin(half_angle) / half_angle : 1.0;
  vec3 once = cross(r, y);
  return sinc * (cos(half_angle) * once + 0.5 * sinc * cross(r, once));
}

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  vec3 x = texelFetch(rest, at, 0).xyz;
  vec3 heights = vec3(
    dot(planes[0].xyz, x) - planes[0].w,
    dot(planes[1].xyz, x) - planes[1].w,
    dot(planes[2].xyz, x) - planes[2].w);
  vec4 center = vec4(0.0);
  vec3 r = vec3(0.0), step = vec3(0.0), offset = vec3(0.0);
  mat3 more = mat3(0.0); // rows as columns
  float sum = 0.0;
  for (int k = 0; k < column_count; k++) {
    vec4 turning = texelFetch(columns, ivec2(1, k), 0);
    int handle = int(turning.w);
    float w = texelFetch(weights, ivec3(at, handle >> 2), 0)[handle & 3];
    if (w == 0.0) continue;
    vec4 translation = texelFetch(columns, ivec2(2, k), 0);
    vec4 row0 = texelFetch(columns, ivec2(3, k), 0);
    vec4 row1 = texelFetch(columns, ivec2(4, k), 0);
    vec4 row2 = texelFetch(columns, ivec2(5, k), 0);
    w *= gate(translation.w, heights.x) * gate(row0.w, heights.y) * gate(row1.w, heights.z);
    center += w * texelFetch(columns, ivec2(0, k), 0);
    r += w * turning.xyz;
    step += w * translation.xyz;
    more += w * mat3(row0.xyz, row1.xyz, row2.xyz);
    offset += w * texelFetch(columns, ivec2(6, k), 0).xyz;
    sum += w;
  }
  vec3 y = x + x * more + offset;
  if (center.w > 0.0) step += turn(y - center.xyz / center.w, r);
  if (published_origin.w > 0.0) step += max(sum - 1.0, 0.0) * (x + published_origin.xyz);
  moved = vec4(y + step, 1.0);
}

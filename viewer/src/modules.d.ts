declare module "*.glsl" {
  const text: string;
  export default text;
}
declare module "*?worker" {
  const program: string;
  export default program;
}
